"""What a container is started with, and which image file is that of an environment."""

import shutil

import pytest
import yaml

from scripts.common.config import ConfigError, load_config
from scripts.common.container_settings import (
    bound_arguments,
    host_folders,
    passed_variables,
    paths_of,
    places_outside,
)
from scripts.common.errors import UserError
from scripts.common.images import built_image, image_file, lacking, lock_name
from tests.support.project import CONFIG, ROOT


def checked(**environments):
    """Return the small configuration with a section `environments`."""
    return load_config({**yaml.safe_load(CONFIG), "environments": environments})


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
    assert passed_variables(host, "apptainer") == {f"APPTAINERENV_{name}": "secret" for name in named}
    assert list(passed_variables({"HF_TOKEN": "x"}, "singularity")) == ["SINGULARITYENV_HF_TOKEN"]
    assert bound_arguments([]).startswith("--cleanenv ")


def test_folders_outside_the_working_directory_are_shown_links_followed(tmp_path):
    work, data, store = (tmp_path / name for name in ("work", "data", "store"))
    for folder in (work / "own", data / "deep", store):
        folder.mkdir(parents=True)
    (store / "blob").write_text("x")
    (data / "deep" / "model.safetensors").symlink_to(store / "blob")
    (work / "own" / "a.jsonl").write_text("")
    (work / "linked.jsonl").symlink_to(data / "deep" / "b.jsonl")
    (data / "deep" / "b.jsonl").write_text("")
    paths = [work / "own" / "a.jsonl", work / "linked.jsonl", data, data / "deep" / "model.safetensors"]
    assert places_outside(map(str, paths), [str(work)]) == [str(data), str(store)]
    shared = ["/etc/hostname", "/vmlinuz.old.jsonl"]
    assert places_outside(shared, ["/nowhere"]) == shared, "of a folder that the image has too, only the file"


def test_a_path_that_apptainer_would_take_apart_is_refused():
    for path in ("/data/a,b", "/data/a:b"):
        with pytest.raises(UserError, match="can't be shown to a container"):
            bound_arguments([path])
    assert bound_arguments(["/data/two words"]).endswith("--bind '/data/two words'")


def test_what_the_configuration_and_passed_variables_name_is_shown(tmp_path):
    raw = yaml.safe_load(CONFIG)
    (tmp_path / "cards.jsonl").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    raw["datasets"]["cards"]["files"] = [str(tmp_path / "*.jsonl")]
    raw["models"]["small"] = {"path": str(tmp_path / "model"), "architecture": "mistral"}
    raw["runs"]["cards"].pop("tokens")
    raw["pathvars"] = {"results": str(tmp_path / "results")}
    found = set(paths_of(load_config(raw), [tmp_path]))
    assert {str(tmp_path / name) for name in ("cards.jsonl", "model", "model/config.json", "results")} <= found
    variables = {"HF_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "none"), "HOME": "/"}
    assert list(host_folders(variables)) == [str(tmp_path)]


SHARED = ("containers/base.def", "containers/install.sh", "envs/build.lock")


@pytest.mark.parametrize("part", ["containers/gguf.def", "envs/gguf.cpu.lock", "envs/llama.cmake", *SHARED])
def test_an_image_has_another_name_when_anything_that_it_is_made_of_changes(checkout, part):
    before, other = (image_file(name, "cpu", checkout) for name in ("gguf", "dataset"))
    for lock in (checkout / "envs").glob("*.lock"):
        lock.write_text("# changed\n" + lock.read_text())
    assert image_file("gguf", "cpu", checkout) == before, (
        "a comment, which says what a lock was made of, makes no other"
    )
    (checkout / part).write_text((checkout / part).read_text() + "\nmore\n")
    assert image_file("gguf", "cpu", checkout) != before
    assert (image_file("dataset", "cpu", checkout) != other) == (part in SHARED)


def test_images_of_variants_lie_side_by_side(checkout):
    names = [image_file("gguf", torch, checkout, native).name for torch in ("cpu", "cuda") for native in (False, True)]
    variants = ["gguf-cpu", "gguf-cpu-native", "gguf-cuda", "gguf-cuda-native"]
    assert [name.rpartition("-")[0] for name in names] == variants
    assert image_file("score", "cpu", checkout) == image_file("score", "cuda", checkout)
    assert [lock_name(name, "cpu", checkout) for name in ("train", "score")] == ["train.cpu", "score"]


def made(*variant, **native):
    """Make an empty file of an image that is built."""
    image = image_file(*variant, **native)
    image.parent.mkdir(exist_ok=True)
    image.touch()
    return image


def test_a_native_image_is_taken_where_somebody_built_it(checkout):
    portable = made("gguf", "cpu", checkout)
    assert built_image("gguf", "cpu", checkout) == portable
    native = made("gguf", "cpu", checkout, native=True)
    assert built_image("gguf", "cpu", checkout) == native
    assert built_image("gguf", "cuda", checkout) == image_file("gguf", "cuda", checkout)


def test_images_that_are_not_there_are_to_be_built_as_the_configuration_says(checkout):
    said = 'no container image of dataset, gguf: make containers ENVS="dataset gguf" TORCH='
    assert lacking(["dataset", "gguf"], "cuda", checkout) == said + "cuda"
    made("gguf", "cuda", checkout)
    assert lacking(["dataset", "gguf"], "cpu", checkout) == said + "cpu"
    made("gguf", "cpu", checkout, native=True)
    line = "the container images of gguf are for a CPU: set environments: {torch: cpu}"
    image_file("gguf", "cuda", checkout).unlink()
    assert lacking(["gguf", "train"], "cuda", checkout) == f'{line}, and make containers ENVS="train" TORCH=cpu'
    made("train", "cpu", checkout)
    assert lacking(["gguf", "train"], "cuda", checkout) == line.replace("gguf", "gguf, train")


def test_a_published_image_is_named_by_its_digest():
    digest = f"@sha256:{'0a' * 32}"
    for reference in (f"docker://r.example/team/train:1.0{digest}", f"oras://r.example/train{digest}"):
        assert checked(images={"train": reference}).environments.images["train"] == reference


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"images": {"train": "docker://r.example/train:1.0"}}, r"images\.train: '.*' is no docker:// or oras://"),
        ({"images": {"train": f"https://r.example/train@sha256:{'0a' * 32}"}}, r"images\.train: '.*' is no docker://"),
        ({"images": {"train": "docker://train@sha256:12"}}, r"images\.train: '.*' is no docker:// or oras://"),
        ({"images": {"train": "image"}}, r"images\.train: 'image' is neither a published image .* \.sif"),
        ({"images": {"trian": "x.sif"}}, "images"),
        ({"torch": "rocm"}, "torch: .* 'rocm' is not one of cuda, cpu"),
    ],
)
def test_unpinned_images_and_unknown_variants_are_refused(settings, fault):
    with pytest.raises(ConfigError, match=rf"^environments\.{fault}"):
        checked(**settings)
