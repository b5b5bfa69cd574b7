"""A file that a step made is not read by another when it has changed."""

import pytest

from scripts.common import files
from scripts.common.checksums import checksum_path, intact
from scripts.common.errors import UserError
from tests.support.damage import cut_short, flip_byte


def test_a_changed_file_is_read_once_it_is_made_again_or_its_checksum_file_deleted(tmp_path):
    made = tmp_path / "train.jsonl"
    files.write_jsonl(made, [{"a": 1}])
    made.write_text('{"a": 7}\n')
    for _ in range(2):
        with pytest.raises(UserError, match=r"train.jsonl: has changed since it was made; delete it, and the run"):
            list(files.read_jsonl(made))
        checksum_path(made).write_text("")  # a damaged checksum file is no licence
    checksum_path(made).unlink()
    assert list(files.read_jsonl(made)) == [{"a": 7}]
    files.write_jsonl(made, [{"b": 1}])
    flip_byte(made)
    made.unlink()
    files.write_jsonl(made, [{"b": 1}])
    assert list(files.read_jsonl(made)) == [{"b": 1}]
    assert intact(tmp_path / "missing.gguf") == tmp_path / "missing.gguf"


def test_a_folder_is_checked_by_its_manifest_and_the_manifest_by_its_checksum_file(tmp_path):
    with files.atomic_folder(tmp_path / "model") as folder:
        files.write_json(folder / "config.json", {"layers": 1})
        (folder / "model.safetensors").write_bytes(bytes(1000))
        files.write_manifest(folder, name="m")
    manifest = tmp_path / "model" / "manifest.json"
    assert sorted(files.check_manifest(manifest)["files"]) == ["config.json", "model.safetensors"]
    assert sorted(path.name for path in manifest.parent.iterdir()) == [
        ".manifest.json.sha256", "config.json", "manifest.json", "model.safetensors",
    ]  # fmt: skip
    for name in ("config.json", "model.safetensors", "manifest.json"):
        path = manifest.parent / name
        content = path.read_bytes()
        flip_byte(path)
        with pytest.raises(UserError, match=rf"{name}: has changed.*; delete"):
            files.check_manifest(manifest)
        path.write_bytes(content)
        files.check_manifest(manifest)


def test_a_step_that_reads_no_weights_does_not_hash_them(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    manifest = files.write_manifest(tmp_path)
    flip_byte(tmp_path / "model.safetensors")
    files.check_manifest(manifest, hashes=False)
    cut_short(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model.safetensors: has 500 bytes, not 1000"):
        files.check_manifest(manifest, hashes=False)


def test_files_of_a_set_have_no_checksum_file_of_their_own(tmp_path):
    with files.atomic_path(tmp_path / "a.png", part=True) as beside:
        beside.write_bytes(b"a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
