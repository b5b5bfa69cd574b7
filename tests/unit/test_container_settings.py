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
    host = {
        "HF_TOKEN": "secret",
        "WANDB_API_KEY": "another",
        "SNAKETUNE_GPU_LOCKS": "/locks",
        "SLURM_JOB_ID": "7",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "PYTHONPATH": "/poison",
        "PYTHONSTARTUP": "/poison.py",
        "LD_LIBRARY_PATH": "/poison",
        "LD_PRELOAD": "/poison.so",
        "CONDA_PREFIX": "/conda",
        "BASH_ENV": "/poison.sh",
        "HOME": "/home/someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    assert passed_variables(host, "apptainer") == {
        "APPTAINERENV_HF_TOKEN": "secret",
        "APPTAINERENV_WANDB_API_KEY": "another",
        "APPTAINERENV_SNAKETUNE_GPU_LOCKS": "/locks",
        "APPTAINERENV_SLURM_JOB_ID": "7",
        "APPTAINERENV_ONEDNN_MAX_CPU_ISA": "AVX2",
    }
    assert list(passed_variables({"HF_TOKEN": "x"}, "singularity")) == ["SINGULARITYENV_HF_TOKEN"]
    arguments = bound_arguments([]).split()
    assert arguments[0] == "--cleanenv"
    assert "secret" not in " ".join(arguments)


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


def test_of_a_folder_that_the_image_has_too_only_the_file_is_shown():
    assert places_outside(["/etc/hostname", "/vmlinuz.old.jsonl"], ["/nowhere"]) == [
        "/etc/hostname",
        "/vmlinuz.old.jsonl",
    ]


def test_a_path_that_apptainer_would_take_apart_is_refused():
    for path in ("/data/a,b", "/data/a:b"):
        with pytest.raises(UserError, match="can't be shown to a container"):
            bound_arguments([path])
    assert bound_arguments(["/data/two words"]).endswith("--bind '/data/two words'")


def test_what_the_configuration_names_is_shown(tmp_path):
    raw = yaml.safe_load(CONFIG)
    (tmp_path / "cards.jsonl").write_text("")
    raw["datasets"]["cards"]["files"] = [str(tmp_path / "*.jsonl")]
    raw["models"]["small"] = {"path": str(tmp_path / "model"), "architecture": "mistral"}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    raw["runs"]["cards"].pop("tokens")
    raw["pathvars"] = {"results": str(tmp_path / "results")}
    found = set(paths_of(load_config(raw), [tmp_path]))
    names = ("cards.jsonl", "model", "model/config.json", "results")
    assert {str(tmp_path / name) for name in names} <= found


def test_folders_that_passed_variables_name_are_shown_where_they_are(tmp_path):
    assert list(host_folders({"HF_HOME": str(tmp_path), "TMPDIR": str(tmp_path / "none"), "HOME": "/"})) == [
        str(tmp_path)
    ]


@pytest.mark.parametrize(
    "part",
    [
        "containers/gguf.def",
        "containers/base.def",
        "containers/install.sh",
        "envs/gguf.cpu.lock",
        "envs/build.lock",
        "envs/llama.cmake",
    ],
)
def test_an_image_has_another_name_when_anything_that_it_is_made_of_changes(checkout, part):
    before = image_file("gguf", "cpu", checkout)
    other = image_file("dataset", "cpu", checkout)
    (checkout / part).write_text((checkout / part).read_text() + "\nmore\n")
    assert image_file("gguf", "cpu", checkout) != before
    shared = part in ("containers/base.def", "containers/install.sh", "envs/build.lock")
    assert (image_file("dataset", "cpu", checkout) != other) == shared


def test_a_comment_in_a_lock_which_says_what_it_was_made_of_makes_no_other_image(checkout):
    before = image_file("gguf", "cpu", checkout)
    for lock in (checkout / "envs").glob("*.lock"):
        lock.write_text("# changed\n" + lock.read_text())
    assert image_file("gguf", "cpu", checkout) == before


def test_images_of_variants_lie_side_by_side(checkout):
    names = [image_file("gguf", torch, checkout, native).name for torch in ("cpu", "cuda") for native in (False, True)]
    assert [name.rpartition("-")[0] for name in names] == [
        "gguf-cpu",
        "gguf-cpu-native",
        "gguf-cuda",
        "gguf-cuda-native",
    ]
    assert image_file("score", "cpu", checkout) == image_file("score", "cuda", checkout)
    assert [lock_name(name, "cpu", checkout) for name in ("train", "score")] == ["train.cpu", "score"]


def made(image):
    """Make an empty file of an image that is built."""
    image.parent.mkdir(exist_ok=True)
    image.touch()
    return image


def test_a_native_image_is_taken_where_somebody_built_it(checkout):
    portable = made(image_file("gguf", "cpu", checkout))
    assert built_image("gguf", "cpu", checkout) == portable
    native = made(image_file("gguf", "cpu", checkout, native=True))
    assert built_image("gguf", "cpu", checkout) == native
    assert built_image("gguf", "cuda", checkout) == image_file("gguf", "cuda", checkout)


def test_images_that_are_not_there_are_to_be_built_as_the_configuration_says(checkout):
    say = 'no container image of dataset, gguf: make containers ENVS="dataset gguf" TORCH='
    assert lacking(["dataset", "gguf"], "cuda", checkout) == say + "cuda"
    made(image_file("gguf", "cuda", checkout))
    assert lacking(["dataset", "gguf"], "cpu", checkout) == say + "cpu"


def test_who_built_images_for_a_cpu_is_told_the_setting_and_not_to_build_cuda_ones(checkout):
    made(image_file("gguf", "cpu", checkout, native=True))
    setting = "set environments: {torch: cpu}"
    assert lacking(["gguf", "train"], "cuda", checkout) == (
        f'the container images of gguf are for a CPU: {setting}, and make containers ENVS="train" TORCH=cpu'
    )
    made(image_file("train", "cpu", checkout))
    assert lacking(["gguf", "train"], "cuda", checkout) == (
        f"the container images of gguf, train are for a CPU: {setting}"
    )


def test_a_published_image_is_named_by_its_digest():
    digest = f"@sha256:{'0a' * 32}"
    for reference in (f"docker://r.example/team/train:1.0{digest}", f"oras://r.example/train{digest}"):
        assert checked(images={"train": reference}).environments.images["train"] == reference
    for reference in ("docker://r.example/train:1.0", f"https://r.example/train{digest}", "docker://train@sha256:12"):
        with pytest.raises(ConfigError, match=r"^environments\.images\.train: '.*' is no docker:// or oras://"):
            checked(images={"train": reference})
    with pytest.raises(
        ConfigError, match=r"^environments\.images\.train: 'image' is neither a published image .* \.sif"
    ):
        checked(images={"train": "image"})


def test_an_unknown_variant_or_environment_is_refused():
    with pytest.raises(ConfigError, match=r"^environments\.torch: .* 'rocm' is not one of cuda, cpu"):
        checked(torch="rocm")
    with pytest.raises(ConfigError, match=r"^environments\.images"):
        checked(images={"trian": "x.sif"})
