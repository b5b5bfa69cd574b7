"""The container images of this checkout, for the CPU, as `make containers` builds them."""

import subprocess
import sys
from pathlib import Path

from scripts.workflow.container_images import IMAGES, image_file
from tests.support.needs import need
from tests.support.project import ROOT

INSTALLER = "tests/system/install_apptainer.sh"
ENVIRONMENTS = ("dataset", "train", "gguf", "score")


def build_images() -> str:
    """Build the images of the environments that rules run in, or take those that are there; return what is said."""
    for program in ("apptainer", "debootstrap"):
        need(program, INSTALLER)
    command = [sys.executable, "-m", "containers.build", *ENVIRONMENTS, "--torch", "cpu", "--native"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def image_files() -> dict[str, Path]:
    """Return where the images are, by environment."""
    return {environment: image_file(environment, "cpu", ROOT, native=True) for environment in ENVIRONMENTS}


def use_images(folder: Path) -> None:
    """Let the workflow in a folder, whose configuration says nothing of environments, use these images."""
    (folder / IMAGES).symlink_to(ROOT / IMAGES)
    with open(folder / "config/config.yaml", "a", encoding="utf-8") as config:
        config.write("\nenvironments: {torch: cpu}\n")
