"""What a container is started with, and which image file is that of an environment."""

import shutil

import pytest
import yaml

from scripts.common.errors import UserError
from scripts.config.load import load_config
from scripts.workflow import container_settings as settings
from scripts.workflow.container_images import built_image, image_file
from scripts.workflow.container_settings import bound_arguments, places_outside
from tests.support.project import CONFIG, ROOT


@pytest.fixture
def checkout(tmp_path):
    """The parts of this checkout that images are made of."""
    for part in ("containers", "envs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("images", "__pycache__"))
    return tmp_path


def test_only_named_variables_of_the_host_get_into_a_container():
    named = ("HF_TOKEN", "WANDB_API_KEY", "SNAKETUNE_GPU_LOCKS", "SLURM_JOB_ID", "ONEDNN_MAX_CPU_ISA")
    others = ("PYTHONPATH", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "LD_PRELOAD", "CONDA_PREFIX", "BASH_ENV", "HOME")
    host = dict.fromkeys((*named, *others, "AWS_SECRET_ACCESS_KEY"), "secret")
    assert settings.passed_variables(host, "apptainer") == {f"APPTAINERENV_{name}": "secret" for name in named}
    assert list(settings.passed_variables({"HF_TOKEN": "x"}, "singularity")) == ["SINGULARITYENV_HF_TOKEN"]
    assert bound_arguments([]).startswith("--cleanenv ")


def test_folders_outside_the_working_directory_are_shown_links_followed(tmp_path):
    work, data, store = (tmp_path / name for name in ("work", "data", "store"))
    for path in (work / "own/a.jsonl", data / "deep/b.jsonl", store / "blob"):
        path.parent.mkdir(parents=True)
        path.touch()
    (data / "deep/model.safetensors").symlink_to(store / "blob")
    (work / "linked.jsonl").symlink_to(data / "deep/b.jsonl")
    paths = [work / "own/a.jsonl", work / "linked.jsonl", data, data / "deep/model.safetensors"]
    assert places_outside(map(str, paths), [str(work)]) == [str(data), str(store)]
    shared = ["/etc/hostname", "/vmlinuz.old.jsonl"]
    assert places_outside(shared, ["/nowhere"]) == shared, "of a folder that the image has too, only the file"


def test_a_path_that_apptainer_would_take_apart_is_refused():
    for path in ("/data/a,b", "/data/a:b", "/data/it's"):
        with pytest.raises(UserError, match="can't be shown to a container"):
            bound_arguments([path])
    assert bound_arguments(["/data/two words"]).endswith("--bind '/data/two words'")


def test_what_the_configuration_and_passed_variables_name_is_shown(tmp_path):
    raw = yaml.safe_load(CONFIG)
    (tmp_path / "model").mkdir()
    for name in ("cards.jsonl", "model/config.json"):
        (tmp_path / name).touch()
    raw["datasets"]["cards"]["files"] = [str(tmp_path / "*.jsonl")]
    raw["models"]["small"] = {"path": str(tmp_path / "model"), "architecture": "mistral"}
    raw["runs"]["cards"].pop("tokens")
    raw["pathvars"] = {"results": str(tmp_path / "results")}
    found = set(settings.paths_of(load_config(raw), [tmp_path]))
    assert {str(tmp_path / name) for name in ("cards.jsonl", "model", "model/config.json", "results")} <= found
    variables = {"HF_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "none"), "HOME": "/"}
    assert list(settings.host_folders(variables)) == [str(tmp_path)]


SHARED = ("containers/base.def", "containers/install.sh", "envs/build.lock")


@pytest.mark.parametrize("part", ["containers/gguf.def", "envs/gguf.cpu.lock", "envs/llama.cmake", *SHARED])
def test_an_image_has_another_name_when_anything_that_it_is_made_of_changes(checkout, part):
    before, other = (image_file(name, "cpu", checkout) for name in ("gguf", "dataset"))
    for lock in (checkout / "envs").glob("*.lock"):
        lock.write_text("# changed\n" + lock.read_text())
    assert image_file("gguf", "cpu", checkout) == before, "a comment says what a lock was made of"
    (checkout / part).write_text((checkout / part).read_text() + "\nmore\n")
    assert image_file("gguf", "cpu", checkout) != before
    assert (image_file("dataset", "cpu", checkout) != other) == (part in SHARED)


def made(*variant, **native):
    """Make an empty file of an image that is built."""
    image = image_file(*variant, **native)
    image.parent.mkdir(exist_ok=True)
    image.touch()
    return image


def test_a_native_image_is_taken_where_somebody_built_it(checkout):
    assert made("gguf", "cpu", checkout) == built_image("gguf", "cpu", checkout)
    assert made("gguf", "cpu", checkout, native=True) == built_image("gguf", "cpu", checkout)
    assert built_image("gguf", "cuda", checkout) == image_file("gguf", "cuda", checkout)
