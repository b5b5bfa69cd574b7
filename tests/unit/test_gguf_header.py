"""A GGUF file is read in Python before native code gets it, and its metadata can be changed."""

import contextlib
import random
import struct

import pytest

from scripts.common.errors import UserError
from scripts.common.gguf_header import read_header
from scripts.common.gguf_layout import BLOCKS
from scripts.gguf.rewrite import Int32, encoded_text, rewrite_metadata


def head(version: int = 3, tensors: int = 0, values: int = 0, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values) + rest


def entry(key: str, kind: int, value: bytes) -> bytes:
    return encoded_text(key) + struct.pack("<I", kind) + value


def tensor(name: str = "t", shape=(32,), kind: int = 0, offset: int = 0) -> bytes:
    return encoded_text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_tensor_types_are_those_of_the_gguf_library():
    from gguf import GGML_QUANT_SIZES

    assert {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()} == BLOCKS


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is no GGUF file: it is empty"),
        (b"PK\3\4 some archive", "is no GGUF file: it does not begin with 'GGUF'"),
        (b"GGUF", "it ends at byte 4, but byte 8 is announced"),
        (head(version=1), "version 1 is not among 2, 3"),
        (head(version=50331648), "version 50331648 is not among 2, 3"),
        (head(tensors=2**60), f"it announces {2**60} tensors and 0 metadata entries"),
        (head(values=1), "it ends at byte 24, but byte 32 is announced"),
        (head(values=1, rest=encoded_text("k")), "it ends at byte 33, but byte 37 is announced"),
        (head(values=1, rest=struct.pack("<Q", 2**62)), f"it ends at byte 32, but byte {2**62 + 32} is announced"),
        (head(values=1, rest=struct.pack("<Q", 2) + b"\xff\xfe"), "the text at byte 32 is not UTF-8"),
        (head(values=1, rest=entry("k", 13, b"")), "value type 13 at byte 37 does not exist"),
        (
            head(values=1, rest=entry("k", 9, struct.pack("<IQ", 8, 2**40))),
            "the array at byte 49 has type 8 and 1099511627776 entries",
        ),
        (head(values=2, rest=entry("k", 7, b"\1") * 2), "the key 'k' stands in it twice"),
        (
            head(values=1, rest=entry("general.alignment", 4, struct.pack("<I", 12))),
            "general.alignment is 12, not a power of two from 32 to 65536",
        ),
        (head(tensors=1, rest=tensor(shape=())), "tensor 't' has 0 dimensions"),
        (head(tensors=1, rest=tensor(kind=4)), "tensor 't' has the unknown type 4"),
        (head(tensors=1, rest=tensor(shape=(30,), kind=8)), "tensor 't' has rows of 30, not a multiple of 32"),
        (head(tensors=1, rest=tensor()), "tensor 't' ends at byte 192 of 57"),
        (head(tensors=1, rest=tensor(offset=8) + bytes(999)), "tensor 't' begins at byte 8 of the data, not at 0"),
        (head(), "it has no general.architecture"),
    ],
)
def test_an_unsound_file_is_refused_with_a_line(tmp_path, content, line):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_header(path)
    assert str(error.value).startswith(f"{path}: ")
    assert line in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.gguf: is missing"):
        read_header(tmp_path / "none.gguf")


def test_a_sound_file_tells_its_metadata_and_tensors(tiny_gguf):
    header = read_header(tiny_gguf)
    assert header.values["general.architecture"] == "llama"
    assert header.arrays["tokenizer.ggml.tokens"] == header.values["llama.vocab_size"]
    assert sum(t.bytes for t in header.tensors) <= tiny_gguf.stat().st_size - header.data_start
    assert header.parameters == sum(t.bytes // (4 if t.type == 0 else 2) for t in header.tensors)


def test_no_spoilt_file_gets_past_with_another_error(tmp_path, tiny_gguf):
    content, size = tiny_gguf.read_bytes(), read_header(tiny_gguf).data_start
    chance = random.Random(0)
    path = tmp_path / "spoilt.gguf"
    cuts = [chance.randrange(size) for _ in range(40)] + [len(content) - 1, size]
    spoilt = [content[:cut] for cut in cuts]
    for _ in range(80):
        place = chance.randrange(4, size)
        spoilt.append(content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :])
    for variant in spoilt[: len(cuts)]:
        path.write_bytes(variant)
        with pytest.raises(UserError):
            read_header(path)
    for variant in spoilt[len(cuts) :]:
        path.write_bytes(variant)
        with contextlib.suppress(UserError):
            read_header(path)


def test_without_changes_a_file_stays_the_same_to_the_byte(tmp_path, tiny_gguf):
    rewrite_metadata(tiny_gguf, tmp_path / "same.gguf", {})
    assert (tmp_path / "same.gguf").read_bytes() == tiny_gguf.read_bytes()


def test_changed_metadata_are_read_by_the_gguf_library_and_tensors_stay(tmp_path, tiny_gguf):
    from gguf import GGUFReader

    path = tmp_path / "changed.gguf"
    changes = {
        "general.name": "Été à Huế",
        "general.tags": ["a", "", "ấ"],
        "general.sampling.temp": 0.25,
        "general.sampling.top_k": Int32(-1),
        "general.file_type": 7,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": None,
        "new.key": "x" * 100_000,
    }
    rewrite_metadata(tiny_gguf, path, changes)
    reader = GGUFReader(path)
    found = {key: reader.fields[key].contents() for key, value in changes.items() if value is not None}
    assert found == {key: value for key, value in changes.items() if value is not None}
    assert "tokenizer.chat_template" not in reader.fields
    for before, after in zip(GGUFReader(tiny_gguf).tensors, reader.tensors, strict=True):
        assert (before.name, before.tensor_type) == (after.name, after.tensor_type)
        assert before.data.tobytes() == after.data.tobytes()
