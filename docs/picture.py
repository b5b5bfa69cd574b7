"""Take a picture of a page of the results with Chromium, for README.md.

python -m docs.picture results/runs/captions/report.html docs/images/report.png

On Debian: apt-get install chromium fonts-noto-color-emoji
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.common.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1200, 1500  # pixels
LARGEST = 200_000  # bytes
COLOURS = (256, 128, 64, 32)
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")


def browser() -> str:
    """Return where Chromium is; raise UserError when it is not installed."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError("Chromium is not installed", remedy="apt-get install chromium fonts-noto-color-emoji")
    return found


def screenshot(page: Path, target: Path, height: int) -> None:
    """Write the upper part of a page, WIDTH x `height` pixels, as PNG; raise UserError when there is none."""
    if not page.is_file():
        raise UserError("is not there yet", page, remedy="run `make demo` first")
    with tempfile.TemporaryDirectory() as profile:
        size = [f"--window-size={WIDTH},{height}", f"--screenshot={target}", f"--user-data-dir={profile}"]
        command = [browser(), *OPTIONS, *size, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not target.is_file():
        raise UserError(f"Chromium took no picture of it (status {done.returncode})", page)


def shrink(source: Path, target: Path) -> int:
    """Write a picture with as many colours as LARGEST bytes have room for; return its size in bytes.

    Raises UserError when it is larger with the fewest colours.
    """
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        for colours in COLOURS:
            image.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE).save(target, "PNG", optimize=True)
            if target.stat().st_size <= LARGEST:
                return target.stat().st_size
    raise UserError(
        f"has more than {LARGEST} bytes with {COLOURS[-1]} colours", target, remedy="give a smaller --height"
    )


def main(argv=None) -> int:
    """Take the picture; return 1, with one line, when the browser or the page is missing."""
    parser = argparse.ArgumentParser(description="Take a picture of a page of the results, for README.md.")
    parser.add_argument("page", type=Path, help="HTML page")
    parser.add_argument("picture", type=Path, help="PNG to write")
    parser.add_argument("--height", type=int, default=HEIGHT, help="pixels from the top of the page")
    arguments = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "page.png"
            screenshot(arguments.page, whole, arguments.height)
            size = shrink(whole, arguments.picture)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{arguments.picture}: {size // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
