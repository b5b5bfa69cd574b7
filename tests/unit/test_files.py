"""Hashes of values."""

import hashlib

from scripts.common.files import canonical_sha256
from scripts.common.records import content_id


def test_a_values_hash_is_that_of_its_canonical_json():
    assert canonical_sha256({"b": [1, None], "a": "é"}) == hashlib.sha256('{"a":"é","b":[1,null]}'.encode()).hexdigest()
    assert canonical_sha256({"a": "é", "b": [1, None]}) == canonical_sha256({"b": [1, None], "a": "é"})


def test_a_records_id_stays_what_it_was():
    """Splits hang on it."""
    found = content_id([{"role": "user", "content": "é"}])
    assert found == hashlib.sha256('[[{"content":"é","role":"user"}],null]'.encode()).hexdigest()[:16]
