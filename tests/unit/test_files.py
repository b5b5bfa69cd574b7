"""Files: hashes of values, checksum files, second names, and file systems without locks."""

import errno
import fcntl
import hashlib
import os

import pytest

from scripts.common import files
from scripts.common.checksums import checksum_path, intact
from scripts.common.errors import UserError
from scripts.common.parent_watchdog import owner_is_gone
from scripts.common.records import content_id
from scripts.train.training_step import only_training_in
from scripts.workflow.folder_lock import held
from tests.support.damage import cut_short, flip_byte


def test_a_values_hash_is_that_of_its_canonical_json_and_a_records_id_stays_what_it_was_as_splits_hang_on_it():
    expected = hashlib.sha256('{"a":"é","b":[1,null]}'.encode()).hexdigest()
    assert files.canonical_sha256({"b": [1, None], "a": "é"}) == expected
    expected = hashlib.sha256('[[{"content":"é","role":"user"}],null]'.encode()).hexdigest()[:16]
    assert content_id([{"role": "user", "content": "é"}]) == expected


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
    assert list(files.read_jsonl(made)) == [{"b": 1}]
    assert intact(tmp_path / "missing.gguf") == tmp_path / "missing.gguf"


def test_a_folder_is_checked_by_its_manifest_and_the_manifest_by_its_checksum_file(tmp_path):
    with files.atomic_folder(tmp_path / "model") as folder:
        files.write_json(folder / "config.json", {"layers": 1})
        (folder / "model.safetensors").write_bytes(bytes(1000))
        files.write_manifest(folder, name="m")
    manifest, names = tmp_path / "model/manifest.json", {"config.json", "model.safetensors"}
    assert set(files.check_manifest(manifest)["files"]) == names
    assert {path.name for path in manifest.parent.iterdir()} == {*names, "manifest.json", ".manifest.json.sha256"}
    for name in (*names, "manifest.json"):
        path = manifest.parent / name
        content = path.read_bytes()
        flip_byte(path)
        with pytest.raises(UserError, match=rf"{name}: has changed.*; delete"):
            files.check_manifest(manifest)
        path.write_bytes(content)
        files.check_manifest(manifest)


def test_a_step_that_reads_no_weights_does_not_hash_them(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    manifest = files.write_manifest(tmp_path)
    flip_byte(tmp_path / "model.safetensors")
    files.check_manifest(manifest, hashes=False)
    cut_short(tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model.safetensors: has 500 bytes, not 1000"):
        files.check_manifest(manifest, hashes=False)


def refuse(*_):
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def test_a_file_gets_a_second_name_or_is_copied_and_of_a_link_it_is_what_it_leads_to(tmp_path, monkeypatch):
    (tmp_path / "blob").write_text("a")
    (tmp_path / "link").symlink_to("blob")
    files.link_or_copy(tmp_path / "link", tmp_path / "second")
    monkeypatch.setattr(os, "link", refuse)
    files.link_or_copy(tmp_path / "blob", tmp_path / "third")
    assert (tmp_path / "third").read_text() == "a"
    blob, second, third = ((tmp_path / name).lstat().st_ino for name in ("blob", "second", "third"))
    assert blob == second != third


def test_without_locks_a_workflow_runs_a_training_too_and_takes_no_lock_of_another_for_its_own(monkeypatch, tmp_path):
    """Every lock is refused as Lustre refuses it when it is mounted without them."""
    monkeypatch.setattr(fcntl, "flock", refuse)
    with held(tmp_path / "lock") as may_remove, only_training_in(tmp_path):
        assert not may_remove
    (tmp_path / "lock").touch()
    assert not owner_is_gone(tmp_path / "lock", "token")
