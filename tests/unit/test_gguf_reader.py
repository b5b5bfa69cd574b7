"""The head of a GGUF file is read as the `gguf` library reads it, and a damaged file is refused with one line."""

import math
import struct
from dataclasses import replace

import pytest
from gguf import GGML_QUANT_SIZES, GGUFReader

from scripts.common.errors import UserError
from scripts.gguf.reader import TEXT, TYPES, UINT32, read_gguf
from scripts.gguf.rewrite import Int32
from tests.support.gguf_files import changed
from tests.support.gguf_maker import Entry, all_made, language_model


def test_tensor_types_are_those_of_the_gguf_library():
    assert {(int(kind), kind.name.lower(), *sizes) for kind, sizes in GGML_QUANT_SIZES.items()} == {
        (number, *facts) for number, facts in TYPES.items()
    }


@pytest.mark.parametrize("name", all_made())
def test_a_file_is_read_as_the_gguf_library_reads_it(tmp_path, name):
    path = all_made()[name].written(tmp_path / "m.gguf")
    ours, theirs = read_gguf(path), GGUFReader(path)
    assert ours.values == {k: field.contents() for k, field in theirs.fields.items() if not k.startswith("GGUF.")}
    assert [(t.name, t.shape, t.type, ours.data(t)) for t in ours.tensors] == [
        (t.name, tuple(t.shape), t.tensor_type, t.data.tobytes()) for t in theirs.tensors
    ]


def with_tensor(**changes) -> bytes:
    made = language_model().copy()
    made.tensors[0] = replace(made.tensors[0], **changes)
    return made.encoded()


def with_entry(*entry) -> bytes:
    made = language_model()
    return replace(made, entries=[*made.entries, Entry(*entry)]).encoded()


def with_bytes(place: int, data: bytes) -> bytes:
    return SOUND[:place] + data + SOUND[place + len(data) :]


SOUND = language_model().encoded()
Q = struct.Struct("<Q").pack
DAMAGED = {
    "empty": b"",
    "another format": b"PK\3\4 some archive",
    "nothing but its magic": b"GGUF",
    "cut off": SOUND[:-1],
    "big-endian": with_bytes(4, b"\0\0\0\3"),
    "number of tensors that overflows": with_bytes(8, Q(2**61)),
    "number of entries that overflows": with_bytes(16, Q(2**64 - 1)),
    "length of a key that wraps around": with_bytes(24, Q(2**64 - 1)),
    "array longer than the file": with_bytes(SOUND.index(b"token_type") + 18, Q(2**62 + 1)),
    "texts longer than the file": with_bytes(SOUND.index(b"ggml.tokens") + 19, Q(2**61)),
    "value of an unknown type": with_entry("k", 13, b""),
    "key that is not UTF-8": with_entry(b"\xff", UINT32, 9),
    "key twice": with_entry("general.name", TEXT, "x"),
    "one part of several": with_entry("split.count", UINT32, 2),
    "no architecture": replace(language_model(), entries=language_model().entries[1:]).encoded(),
    "number that is not finite": language_model().with_values(llama__rope__freq_base=math.inf).encoded(),
    "alignment of zero": language_model().with_values(general__alignment=0).encoded(),
    "tensor of an unknown type": with_tensor(kind=4),
    "tensor of no dimension": with_tensor(shape=()),
    "rows that are no whole blocks": with_tensor(shape=(30,), kind=8),
    "tensor beyond the file": with_tensor(shape=(64, 2**20)),
    "offset beyond the file": with_tensor(offset=2**64 - 32),
    "sizes whose product overflows": with_tensor(shape=(2**33, 2**31, 64)),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_with_one_line(tmp_path, damage):
    path = tmp_path / "m.gguf"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(UserError) as error:
        read_gguf(path)
    assert str(error.value).startswith(f"{path}: is not a valid GGUF file: ")
    assert str(error.value).isprintable()


def test_changed_metadata_are_read_back_tensors_stay_and_without_changes_so_does_every_byte(tmp_path):
    path, other = language_model().written(tmp_path / "m.gguf"), tmp_path / "other.gguf"
    changed(path, tmp_path / "same.gguf", {})
    assert (tmp_path / "same.gguf").read_bytes() == path.read_bytes()
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
    changed(path, other, changes)
    before, after = read_gguf(path), read_gguf(other)
    expected = {**before.values, **changes}
    assert after.values == {key: value for key, value in expected.items() if value is not None}
    assert [before.data(tensor) for tensor in before.tensors] == [after.data(tensor) for tensor in after.tensors]
    GGUFReader(other)
