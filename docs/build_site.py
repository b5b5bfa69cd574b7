"""Build the documentation site in site/, which loads nothing from the network: `make site`.

The site's sources are a copy of the Markdown pages, and of the files that they link to, in the repository's folders.
A relative link, such as `../../config/recipes/pii.yaml`, therefore leads to the same file on GitHub and on the site.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from selectolax.lexbor import LexborHTMLParser

from scripts.common.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = "zensical.toml"
PAGES = ("*.md", "config/*.md", "data/**/*.md", "docs/**/*.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MERMAID = re.compile(r"^```mermaid\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
# What a browser loads with a page. Links that a reader follows (`a`) may lead to other sites.
LOADED = "script[src], img[src], link[href]:not([rel=canonical]), iframe[src], source[src]"


def pages() -> list[Path]:
    """Return the Markdown pages of the repository that are on the site."""
    return sorted(path for pattern in PAGES for path in ROOT.glob(pattern))


def links(page: Path) -> Iterator[tuple[str, Path]]:
    """Yield each relative link of a Markdown page, with the file or folder that it leads to."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        file = link.partition("#")[0]
        if file and not re.match(r"[a-z]+:", file):
            yield link, (page.parent / file).resolve()


def without_script(text: str) -> str:
    """Return a page with its Mermaid graph as a table, because the script that draws it would come from the network."""

    def table(found: re.Match) -> str:
        after: dict[str, list[str]] = {}
        for start, end in re.findall(r"(\w+) --> (\w+)", found[1]):
            after.setdefault(start, []).append(f"`{end}`")
        rows = [f"| `{start}` | {', '.join(ends)} |" for start, ends in after.items()]
        return "\n".join(["| rule | then |", "|---|---|", *rows, ""])

    return MERMAID.sub(table, text)


def copy_sources(folder: Path) -> None:
    """Copy the pages and the files that they link to; raise UserError for a link to a folder or to no file."""
    for page in pages():
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(without_script(page.read_text(encoding="utf-8")), encoding="utf-8")
        for link, file in links(page):
            if not file.is_file():
                raise UserError(f"links to '{link}', which is not a file", page.relative_to(ROOT))
            if file.suffix != ".md":
                (folder / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / file.relative_to(ROOT))


def faults(site: Path) -> Iterator[str]:
    """Yield what in the built pages leads nowhere, and what would be loaded from the network."""
    for page in sorted(set(site.rglob("*.html")) - {site / "404.html"}):  # that one is written for a server's root
        tree = LexborHTMLParser(page.read_text(encoding="utf-8"))
        for node in tree.css(f"a[href], {LOADED}"):
            link = node.attributes.get("href") or node.attributes.get("src") or ""
            file = link.partition("#")[0].partition("?")[0]
            if re.match(r"[a-z]+:|//", file):
                if node.tag != "a":
                    yield f"{page.relative_to(site)}: loads {link}"
            elif file and not (page.parent / file).is_file():
                yield f"{page.relative_to(site)}: {link} is not there"


def build(site: Path) -> None:
    """Build the site in a folder, which is replaced; raise UserError with all broken links if there are any."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(ROOT / SETTINGS, folder)
        copy_sources(folder / "pages")
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        environment = {**os.environ, "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        said = done.stderr.partition("Traceback")[0].strip() or done.stderr
        found = [said] if done.returncode else list(faults(folder / "site"))
        if found:
            raise UserError("the site has faults:\n" + "\n".join(found))
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(folder / "site", site)


def main(argv=None) -> int:
    """Build the site; return 1 with the faults if there are any."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.parse_args(argv)
    site = ROOT / "site"
    try:
        build(site)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{site}/index.html: {len(list(site.rglob('*.html')))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
