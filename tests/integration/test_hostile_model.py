"""A hostile model folder: nothing in it is run, nothing outside of it is taken, and what can't be taken is one line.

Through the step that takes a folder, and on to the loading of what it took.
"""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.files import check_manifest, read_json
from scripts.model import link_local_model

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"architecture": "mistral", "license": "MIT", "trust_remote_code": False, "template_date": None}
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nPath({mark!r}).touch()\nclass Own: pass\n"
LOAD = """
import sys
from pathlib import Path
from scripts.common.base_model import load_base, load_tokenizer
import torch
manifest = Path(sys.argv[1])
load_tokenizer(manifest)
load_base(manifest, torch.float32)
"""


class Folder:
    """A model's folder to be spoilt, and the step that takes it."""

    def __init__(self, source: Path, target: Path, mark: Path, capsys: pytest.CaptureFixture):
        self.source, self.target, self.mark, self.capsys = source, target, mark, capsys

    def change(self, name: str, **entries) -> None:
        """Change entries of a JSON file; None takes one out."""
        content = read_json(self.source / name) if (self.source / name).is_file() else {}
        content = {key: value for key, value in (content | entries).items() if value is not None}
        (self.source / name).write_text(json.dumps(content), encoding="utf-8")

    def plant(self, name: str) -> None:
        """Put Python code there that leaves a mark when it is run."""
        (self.source / name).write_text(CODE.format(mark=str(self.mark)), encoding="utf-8")

    def take(self, **settings) -> int:
        """Run the step; return its exit status."""
        arguments = ["--name", "mine", "--folder", str(self.target), "--settings", json.dumps(SETTINGS | settings)]
        return link_local_model.main([str(self.source), *arguments])

    def refused(self, line: str) -> None:
        """The step refuses the folder with this in its one line, and leaves nothing behind."""
        assert self.take() == 1
        said = self.capsys.readouterr().err.partition(" ERROR ")[2].strip()
        assert line in said
        assert len(said.splitlines()) == 1
        assert not self.target.exists()

    def loads(self) -> None:
        """What was taken is loaded by another process, in which no planted code runs."""
        done = subprocess.run([sys.executable, "-c", LOAD, str(self.target / "manifest.json")], cwd=ROOT, check=False)
        assert done.returncode == 0
        assert not self.mark.exists()


@pytest.fixture
def folder(tiny_base, tmp_path, capsys) -> Folder:
    source = shutil.copytree(tiny_base.parent, tmp_path / "source", ignore=shutil.ignore_patterns("manifest.json"))
    return Folder(source, tmp_path / "taken", tmp_path / "mark", capsys)


def test_pickles_alone_are_refused(folder):
    for name in ("pytorch_model.bin", "model.pkl", "model.pt"):
        (folder.source / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.")
    (folder.source / "model.safetensors").unlink()
    folder.refused("has no .safetensors file, only pytorch_model.bin, which can hide code")


def test_pickles_beside_safetensors_are_not_taken(folder):
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "x.pkl", "x.h5", "x.npy"):
        (folder.source / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.")
    assert folder.take() == 0
    kept = {path.suffix for path in folder.target.iterdir() if not path.name.startswith(".")}
    assert kept <= {".json", ".jinja", ".model", ".safetensors"}


def test_remote_code_of_a_known_model_is_taken_out_and_never_imported(folder):
    folder.plant("modeling_own.py")
    folder.plant("tokenization_own.py")
    folder.change("config.json", auto_map=dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), "modeling_own.Own"))
    folder.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_own.Own", None]})
    assert folder.take() == 0
    assert check_manifest(folder.target / "manifest.json", hashes=True)["mended"] == [
        "config.json", "tokenizer_config.json"
    ]  # fmt: skip
    assert not list(folder.target.glob("*.py"))
    assert "auto_map" not in read_json(folder.target / "config.json") | read_json(
        folder.target / "tokenizer_config.json"
    )
    folder.loads()


def test_remote_code_of_another_repository_is_not_fetched(folder):
    folder.change("config.json", auto_map={"AutoModelForCausalLM": "evil/repository--modeling_own.Own"})
    folder.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil/repository--tokenization_own.Own", None]})
    assert folder.take() == 0
    assert "evil" not in "".join(path.read_text() for path in folder.target.glob("*config.json"))


def test_a_kernel_from_the_hub_is_not_fetched(folder):
    folder.change("config.json", attn_implementation="evil/kernel", _attn_implementation="evil/kernel:run")
    folder.change("generation_config.json", custom_generate="evil/generate")
    assert folder.take() == 0
    assert "evil" not in "".join(path.read_text() for path in folder.target.glob("*config.json"))
    folder.loads()


def test_a_model_or_tokenizer_that_is_nothing_without_its_code_is_refused(folder):
    folder.plant("own.py")
    folder.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    (folder.source / "tokenizer.json").unlink(missing_ok=True)
    folder.refused("its tokenizer needs Python code of its own (class 'Own'); read that code, then set")
    folder.change("config.json", auto_map={"AutoConfig": "own.Own"}, model_type="own")
    folder.refused("needs Python code of its own (model type 'own'); read that code, then set")
    assert not folder.mark.exists()


HEADERS = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63),
    "a header longer than the file": struct.pack("<Q", 100) + b"{}",
    "no header": b"",
    "a header that is no JSON": struct.pack("<Q", 4) + b"\x80\x04co",
    "a header without end": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a header that is a list": struct.pack("<Q", 2) + b"[]",
    "a tensor without shape": b'{"t": {"dtype": "F32", "data_offsets": [0, 4]}}',
    "a tensor of another size": b'{"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
    "a tensor beyond the file": b'{"t": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}',
    "a negative dimension": b'{"t": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    "a shape that overflows": b'{"t": {"dtype": "F32", "shape": [9223372036854775807, 4], "data_offsets": [0, 0]}}',
    "a dimension as text": b'{"t": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}}',
    "an unknown type": b'{"t": {"dtype": "PICKLE", "shape": [1], "data_offsets": [0, 4]}}',
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_safetensors_header_is_refused(folder, name: str):
    content = HEADERS[name]
    if content.startswith(b"{"):
        content = struct.pack("<Q", len(content)) + content + bytes(4)
    (folder.source / "model.safetensors").write_bytes(content)
    folder.refused("model.safetensors: is no safetensors file: ")


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "pytorch_model.bin", "none.safetensors", 7])
def test_an_index_that_leads_out_of_the_folder_or_to_a_pickle_is_refused(folder, name):
    shutil.copy(folder.source / "model.safetensors", folder.source.parent / "secret.safetensors")
    (folder.source / "pytorch_model.bin").write_bytes(b"\x80\x04")
    folder.change("model.safetensors.index.json", weight_map={"lm_head.weight": name})
    folder.refused("which is no safetensors file of the folder")


def test_an_index_of_files_that_are_not_taken_is_no_hindrance(folder):
    folder.change("consolidated.safetensors.index.json", weight_map={"lm_head.weight": "consolidated-1.safetensors"})
    assert folder.take() == 0
    assert not (folder.target / "consolidated.safetensors.index.json").exists()


def test_a_link_out_of_the_folder_is_refused(folder):
    (folder.source / "README.md").symlink_to("/etc/passwd")
    folder.refused("README.md: is a link out of the model's folder; put the file itself there")


def test_a_snapshot_of_the_hubs_cache_which_consists_of_links_is_taken(folder, tmp_path):
    cache = tmp_path / "models--org--name"
    blobs, snapshot = cache / "blobs", cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    folder.source.rename(blobs)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    folder.source = snapshot
    assert folder.take() == 0
    assert check_manifest(folder.target / "manifest.json", hashes=True)["files"]


def test_weights_that_are_a_link_to_something_else_are_refused(folder):
    (folder.source / "model.safetensors").unlink()
    (folder.source / "model.safetensors").symlink_to("/etc/passwd")
    folder.refused(f"{folder.source / 'model.safetensors'}: is no safetensors file")


def test_weights_that_are_a_link_to_nothing_are_refused(folder):
    (folder.source / "model.safetensors").rename(folder.source / "model-1.safetensors")
    (folder.source / "model-2.safetensors").symlink_to("nothing.safetensors")
    folder.refused(f"{folder.source / 'model-2.safetensors'}: is a link to nothing; put the file itself there")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.json"])
def test_of_a_file_that_is_copied_the_users_own_is_named(folder, name):
    (folder.source / name).write_text("{", encoding="utf-8")
    (folder.source / "chat_template.jinja").unlink(missing_ok=True)
    folder.refused(f"{folder.source / name}:1: is not valid JSON")
