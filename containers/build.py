"""Build the container images of the environments: `make containers [ENVS="dataset score"] [TORCH=cpu] [NATIVE=yes]`.

    python -m containers.build --torch cpu

An image that is there already, of the same definition and lock, is left alone. Needed: Apptainer and debootstrap (which
asks for root, or for Apptainer's fakeroot). Debian comes from the mirror that this machine's apt uses, or from
SNAKETUNE_DEBIAN_MIRROR; packages come from where pip is configured to look here: its settings, certificates, folders
and proxies are lent to the build, and stay out of the image.
"""

import argparse
import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from envs.lock import environments
from scripts.common.errors import UserError
from scripts.workflow.container_images import COMPILED, content_digest, image_file, lock_name, shared_image, variant

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = Path("/mnt")  # where a build finds what this machine lends it
PIP_KEYS = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "proxy", "timeout", "retries")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def needed_programs() -> None:
    """Refuse to start without the programs that build images."""
    missing = [name for name in ("apptainer", "debootstrap", "mksquashfs") if not shutil.which(name)]
    if missing:
        raise UserError(f"not installed: {', '.join(missing)}", remedy="docs/how-to/containers.md says how")


def debian_mirror() -> str:
    """Return the address of the Debian mirror: SNAKETUNE_DEBIAN_MIRROR, else that of this machine's apt."""
    if mirror := os.environ.get("SNAKETUNE_DEBIAN_MIRROR"):
        return mirror
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False) if shutil.which("apt-get") else None
    for line in listed.stdout.splitlines() if listed else ():
        origin, label, address = line.split("|")
        if origin == label == "Debian":
            return address.rstrip("/")
    raise UserError("this machine's apt knows no Debian mirror", remedy="name one in SNAKETUNE_DEBIAN_MIRROR")


def pip_settings() -> dict[str, str]:
    """Return how pip finds packages on this machine; the environment wins over files, as it does for pip."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, tuple[int, str]] = {}
    for section, key, value in re.findall(r"(?m)^(\S+?)\.([\w-]+)='(.*)'$", listed.replace("\\n", " ")):
        rank = {":env:": 2, "install": 1}.get(section, 0)
        if key in (*PIP_KEYS, "cert") and rank >= found.get(key, (0, ""))[0]:
            found[key] = rank, value
    return {key: value for key, (_, value) in found.items()}


def certificates(settings: dict[str, str]) -> Path | None:
    """Return the file of the certificates that this machine trusts, if there is one."""
    named = [settings.get("cert"), os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile]
    return next((Path(name) for name in named if name and Path(name).is_file()), None)


def lend_folders(settings: dict[str, str], folder: Path) -> list[str]:
    """Bind the folders of this machine in which pip looks for packages, and name them as the build sees them.

    Returns the binds; a mount point has to be there before a build starts, so all of them are below `folder`.
    """
    binds = []
    for key in ("index-url", "extra-index-url", "find-links"):
        words = settings.get(key, "").split()
        for place, word in enumerate(words):
            is_index = word.startswith("file:")
            path = Path(url2pathname(urlsplit(word).path)) if is_index else Path(word)
            if path.is_dir():
                # An index of files may link to packages that lie beside it.
                lent, rest = (path.parent, path.name) if is_index else (path, "")
                point = f"local{len(binds)}"
                (folder / point).mkdir()
                binds.append(f"{lent}:{SETTINGS}/{point}")
                inside = SETTINGS / point / rest
                words[place] = inside.as_uri() if is_index else str(inside)
        if words:
            settings[key] = " ".join(words)
    return binds


def pip_cache(portable: bool) -> Path | None:
    """Return the folder of pip's cache for builds; None where pip has none.

    pip's cache doesn't tell wheels apart that were built with different settings: portable ones have their own.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "cache", "dir"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        return None
    folder = Path(found.stdout.strip())
    folder = folder / "snaketune-portable" if portable else folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lend_settings(folder: Path, portable: bool) -> list[str]:
    """Write what a build needs to know of this machine into a folder; return the options that bind it."""
    settings = pip_settings()
    lines = [f"export PIP_CONFIG_FILE={SETTINGS}/pip.conf"]
    binds = [f"{folder}:{SETTINGS}", *lend_folders(settings, folder)]
    if found := certificates(settings):
        shutil.copyfile(found, folder / "certificates.pem")
        settings["cert"] = f"{SETTINGS}/certificates.pem"
        lines.append(f"export SSL_CERT_FILE={SETTINGS}/certificates.pem")
    if cache := pip_cache(portable):
        (folder / "cache").mkdir()
        binds.append(f"{cache}:{SETTINGS}/cache")
        lines.append(f"export PIP_CACHE_DIR={SETTINGS}/cache")
    if portable:
        lines.append("export CMAKE_ARGS=-DGGML_NATIVE=OFF")
    lines += [f"export {name}={shlex.quote(os.environ[name])}" for name in PROXIES if name in os.environ]
    (folder / "settings.sh").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pip = ["[global]", *(f"{key} = {value}" for key, value in sorted(settings.items()))]
    (folder / "pip.conf").write_text("\n".join(pip) + "\n", encoding="utf-8")
    return [word for bind in binds for word in ("--bind", bind)]


def build(image: Path, definition: str, arguments: dict[str, str], options: list[str], compression: str) -> None:
    """Build an image unless it is there; it gets its name when it is whole."""
    if image.exists():
        print(f"{image.name}: unchanged", flush=True)
        return
    started = time.monotonic()
    image.parent.mkdir(parents=True, exist_ok=True)
    unfinished, log = image.with_suffix(f".{os.getpid()}.unfinished"), image.with_suffix(".log")
    command = [
        "apptainer",
        "build",
        "--force",
        "--mksquashfs-args",
        f"-comp {compression} -Xcompression-level 1",
        *options,
    ]
    command += [word for key, value in arguments.items() for word in ("--build-arg", f"{key}={value}")]
    print(f"{image.name}: building ...", flush=True)
    try:
        with log.open("w", encoding="utf-8") as file:
            command += [str(unfinished), f"containers/{definition}.def"]
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            tail = "".join(log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-30:])
            raise UserError(f"{definition} was not built; the end of {log}:\n{tail}")
        unfinished.rename(image)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{image.name}: {image.stat().st_size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s", flush=True)


def version() -> str:
    """Return the version of this project."""
    return re.search(r"(?m)^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))[1]


def build_environment(environment: str, torch: str, native: bool) -> Path:
    """Build the image of an environment, and first what it is built from; return its file."""
    image = image_file(environment, torch, ROOT, native)
    if image.exists():
        print(f"{image.name}: unchanged", flush=True)
        return image
    shared = {name: shared_image(name, ROOT) for name in (("base", "tools") if environment == COMPILED else ("base",))}
    for name, path in shared.items():
        if not path.exists():
            build(path, name, {"mirror": debian_mirror()}, [], "zstd")
    lock = f"envs/{lock_name(environment, torch, ROOT)}.lock"
    arguments = {
        **{name: str(path) for name, path in shared.items()},
        "lock": lock,
        "lock_sha256": content_digest(ROOT / lock),
        "variant": variant(environment, torch, ROOT) or "any",
        "version": version(),
    }
    # The train image of the CPU: 17 s and 569 MB with gzip, 6 s and 542 MB with zstd, which some kernels can't mount.
    compression = "zstd" if native else "gzip"
    with tempfile.TemporaryDirectory(prefix="snaketune-build-") as folder:
        build(image, environment, arguments, lend_settings(Path(folder), portable=not native), compression)
    return image


def main(argv=None) -> int:
    """Build the images; return the exit status."""
    known = [name for name in environments() if (ROOT / f"containers/{name}.def").is_file()]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environments", nargs="*", metavar="env", help=f"all, or some of {', '.join(known)}")
    parser.add_argument("--torch", choices=("cpu", "cuda"), default="cuda", help="which build of torch; cuda")
    parser.add_argument("--native", action="store_true", help="for this machine: llama.cpp of pip's cache, zstd images")
    arguments = parser.parse_args(argv)
    if unknown := [name for name in arguments.environments if name not in known]:
        parser.error(f"no environment '{unknown[0]}'; there are: {', '.join(known)}")
    try:
        needed_programs()
        for environment in arguments.environments or known:
            build_environment(environment, arguments.torch, arguments.native)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
