"""Container images: the image file of each environment, and the files that it is built from.

The name of an image contains a hash of its definition and its lock. After a change of either, steps run again in the
new image, because Snakemake compares names; an image that already exists is not built again.
"""

import hashlib
from pathlib import Path

IMAGES = Path("containers", "images")
PARTS = ("containers/install.sh", "envs/build.lock")
DIGITS = 12
COMPILED = "gguf"  # the environment with a package that is built from source for a CPU
COMPILING = ("containers/tools.def", "containers/compile_llama.sh", "envs/converter.txt", "envs/llama.cmake")


def variant(environment: str, torch: str, root: Path) -> str | None:
    """Return `cpu` or `cuda` for an environment with torch; None for other environments."""
    return torch if (root / "envs" / f"{environment}.cpu.lock").is_file() else None


def lock_name(environment: str, torch: str, root: Path) -> str:
    """Return the name of an environment's lock: `<env>.cpu` for the CPU variant if it exists, else `<env>`."""
    return f"{environment}.cpu" if variant(environment, torch, root) == "cpu" else environment


def shared_image(name: str, root: Path) -> Path:
    """Return the path of the image `base` or `tools`, from which other images are built."""
    definition = f"containers/{name}.def"
    return root / IMAGES / f"{name}-{digest_of([definition], root)}.sif"


def image_file(environment: str, torch: str, root: Path, native: bool = False) -> Path:
    """Return the path of an environment's image, which need not exist yet.

    A `native` image is for the machine that built it: that of gguf contains llama.cpp for its CPU. Other images run on
    any x86-64 CPU with AVX2.
    """
    sources = [f"containers/{environment}.def", "containers/base.def", *PARTS]
    sources.append(f"envs/{lock_name(environment, torch, root)}.lock")
    if environment == COMPILED:
        sources += COMPILING
    words = [environment, variant(environment, torch, root), "native" if native else None, digest_of(sources, root)]
    return root / IMAGES / f"{'-'.join(filter(None, words))}.sif"


def built_image(environment: str, torch: str, root: Path) -> Path:
    """Return the path of the image for steps: the native image if it exists, else the portable image."""
    native, portable = (image_file(environment, torch, root, native) for native in (True, False))
    return native if native.exists() else portable


def digest_of(names: list[str], root: Path) -> str:
    """Return the first digits of the SHA-256 of these files' names and contents."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name} {content_digest(root / name)}\n".encode())
    return digest.hexdigest()[:DIGITS]


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file. Comments in a lock do not count: they change with any environment."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if path.suffix != ".lock" or not line.startswith(b"#")]
    return hashlib.sha256(b"".join(kept)).hexdigest()
