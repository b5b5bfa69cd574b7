"""Hashes of values, and files that have two names."""

import hashlib
import os

from scripts.common.files import canonical_sha256, link_or_copy
from scripts.common.records import content_id


def test_a_values_hash_is_that_of_its_canonical_json():
    assert canonical_sha256({"b": [1, None], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,null]}'.encode()).hexdigest()


def test_a_records_id_stays_what_it_was_as_splits_hang_on_it():
    found = content_id([{"role": "user", "content": "é"}])
    assert found == hashlib.sha256('[[{"content":"é","role":"user"}],null]'.encode()).hexdigest()[:16]


def test_a_file_gets_a_second_name_or_is_copied_and_of_a_link_it_is_what_it_leads_to(tmp_path, monkeypatch):
    (tmp_path / "blob").write_text("a")
    (tmp_path / "link").symlink_to("blob")
    link_or_copy(tmp_path / "link", tmp_path / "second")
    assert not (tmp_path / "second").is_symlink()
    assert (tmp_path / "second").stat().st_ino == (tmp_path / "blob").stat().st_ino

    def refuse(*_):
        raise OSError("Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "blob", tmp_path / "third")
    assert (tmp_path / "third").read_text() == "a"
    assert (tmp_path / "third").stat().st_ino != (tmp_path / "blob").stat().st_ino
