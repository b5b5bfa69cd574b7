"""Published and possible attacks on readers of GGUF files, one by one: each is refused with a line; sound files pass.

Shapes of overflows: CVE-2024-21802, -21825, -21836, -23496, -23605 (counts and lengths of keys, texts, arrays and
tensors), CVE-2025-53630 and CVE-2026-27940 (offsets and sizes that wrap around when they are added up), CVE-2026-33298
(dimensions whose size in bytes wraps around).
"""

import struct
import time
from collections.abc import Callable

import pytest

from scripts.common.errors import UserError
from scripts.common.gguf_header import checked_header, read_header
from scripts.common.gguf_layout import BLOCKS, BOOL, FLOAT32, INT32, TEXT, UINT32
from scripts.common.gguf_tensors import NO_WEIGHTS
from tests.support.gguf_maker import F32, Entry, Made, Weights, all_made, byte_level, language_model, projector

Q = struct.Struct("<Q").pack


def model(**values) -> Made:
    return language_model().with_values(**values)


def with_entry(*entry, made: Made | None = None) -> Made:
    made = made or language_model()
    made.entries.append(Entry(*entry))
    return made


def with_tensor(place: int, made: Made | None = None, **changes) -> Made:
    made = made or language_model()
    for name, value in changes.items():
        setattr(made.tensors[place], name, value)
    return made


def without(key: str, made: Made | None = None) -> Made:
    made = made or language_model()
    made.entries.remove(made.entry(key))
    return made


def without_tensor(place: int, made: Made) -> Made:
    del made.tensors[place]
    return made


def with_array(key: str, change: Callable[[list], list], made: Made | None = None) -> Made:
    made = made or language_model()
    made.entry(key).value = change(list(made.entry(key).value))
    return made


def of_type(key: str, kind: int, value, made: Made | None = None) -> Made:
    made = made or language_model()
    made.entry(key).kind, made.entry(key).value = kind, value
    return made


def with_bytes(place: int, data: bytes) -> bytes:
    content = bytearray(language_model().encoded())
    content[place : place + len(data)] = data
    return bytes(content)


def at(key: str, offset: int, data: bytes) -> bytes:
    """Return a sound file with other bytes so far behind a key."""
    content = language_model().encoded()
    return with_bytes(content.index(key.encode()) + len(key) + offset, data)


TOKENS, TYPES, SCORES = (f"tokenizer.ggml.{name}" for name in ("tokens", "token_type", "scores"))
ATTACKS = {
    "number of tensors that overflows": (with_bytes(8, Q(2**61)), "announces 2305843009213693952 tensors"),
    "negative number of tensors": (with_bytes(8, Q(2**64 - 1)), "announces 18446744073709551615 tensors"),
    "number of entries that overflows": (with_bytes(16, Q(2**63)), "9223372036854775808 metadata entries"),
    "length of a key that wraps around": (with_bytes(24, Q(2**64 - 1)), "but byte 18446744073709551647 is announced"),
    "length of a text that wraps around": (at("general.name", 4, Q(2**64 - 8)), "is announced"),
    "length of an array times its size wraps around": (at(TYPES, 8, Q(2**62 + 1)), "is announced"),
    "length of an array of texts": (at(TOKENS, 8, Q(2**61)), "has type 8 and 2305843009213693952 entries"),
    "array in an array": (at(TOKENS, 4, struct.pack("<I", 9)), "has type 9"),
    "array of an unknown type": (at(TYPES, 4, struct.pack("<I", 13)), "has type 13"),
    "big-endian file": (with_bytes(4, b"\0\0\0\3"), "version 50331648 is not among 2, 3"),
    "empty key": (with_entry("", UINT32, 1), "'' is no key"),
    "key with a NUL": (with_entry("split.count\0", UINT32, 9), r"'split.count\x00' is no key"),
    "key that isn't UTF-8": (with_entry(b"\xff", UINT32, 9), "is not UTF-8"),
    "key twice": (with_entry("general.name", TEXT, "x"), "'general.name' stands in it twice"),
    "alignment 0": (model(general__alignment=0), "general.alignment is 0"),
    "alignment that is no power of two": (model(general__alignment=48), "general.alignment is 48"),
    "alignment too small to compute with": (model(general__alignment=16), "general.alignment is 16"),
    "alignment that overflows": (model(general__alignment=2**31), "general.alignment is 2147483648"),
    "alignment of another type": (of_type("general.alignment", 10, 32), "general.alignment is no 32-bit number"),
    "tensor of five dimensions": (with_tensor(0, shape=(1,) * 5), "has 5 dimensions"),
    "tensor of no dimension": (with_tensor(0, shape=()), "has 0 dimensions"),
    "dimension of zero": (with_tensor(0, shape=(64, 0)), "has the shape 64 x 0"),
    "negative dimension": (with_tensor(0, shape=(64, -1)), "has the shape 64 x 18446744073709551615"),
    "dimensions whose product overflows": (with_tensor(0, shape=(2**32, 2**32)), "4294967296 x 4294967296"),
    "dimensions whose product wraps to little": (with_tensor(0, shape=(2**33, 2**31, 64)), "has the shape"),
    "size in bytes that overflows": (with_tensor(0, shape=(2**62,), kind=F32), "has the shape"),
    "tensor beyond the file": (with_tensor(0, shape=(64, 2**20)), "ends at byte"),
    "offset that wraps around": (with_tensor(0, offset=2**64 - 32), "begins at byte 18446744073709551584 of the data"),
    "offset between two others": (with_tensor(1, offset=32), "begins at byte 32 of the data"),
    "tensors that overlap": (with_tensor(1, offset=0), "begins at byte 0 of the data"),
    "offset that isn't aligned": (with_tensor(0, offset=8), "begins at byte 8 of the data"),
    "name of a tensor too long": (with_tensor(0, name="x" * 64), "is no name of a tensor"),
    "name of a tensor with a NUL": (with_tensor(0, name="output.weight\0"), "is no name of a tensor"),
    "tensor twice": (with_tensor(0, name="output.weight"), "two tensors are named 'output.weight'"),
    "type that was taken out": (with_tensor(0, kind=4), "has the unknown type 4"),
    "type beyond all": (with_tensor(0, kind=2**31), "has the unknown type 2147483648"),
    "part of several files": (with_entry("split.count", 2, 2), "it is one part of several"),
    "no architecture": (without("general.architecture"), "has no general.architecture"),
    "architecture of another type": (of_type("general.architecture", UINT32, 1), "has no general.architecture"),
    "no vocabulary": (without(TOKENS), "token_embd.weight"),
    "empty vocabulary": (with_array(TOKENS, lambda tokens: []), "is no list of texts"),
    "vocabulary of numbers": (of_type(TOKENS, INT32, [1] * 264), "is no list of texts"),
    "fewer types than tokens": (with_array(TYPES, lambda types: types[:-1]), "no list of 264 numbers"),
    "fewer scores than tokens": (with_array(SCORES, lambda scores: scores[:1]), "no list of 264 numbers"),
    "scores of another type": (of_type(SCORES, 0, [1] * 264), "no list of 264 numbers"),
    "types of another type": (of_type(TYPES, 3, [1] * 264), "no list of 264 numbers"),
    "unknown type of a token": (with_array(TYPES, lambda types: [99, *types[1:]]), "has the unknown type 99"),
    "token twice": (with_array(TOKENS, lambda tokens: [*tokens[:-1], "a"]), "token 'a' stands in its vocabulary twice"),
    "tokens that are alike up to a NUL": (with_array(TOKENS, lambda tokens: [*tokens[:-1], "a\0"]), "'a' stands in"),
    "empty token that gets another's name": (
        with_array(TOKENS, lambda tokens: [*tokens[:-2], "[EMPTY_263]", ""]), "'[EMPTY_263]' stands in"
    ),
    "token that isn't UTF-8": (with_array(TOKENS, lambda tokens: [*tokens[:-1], b"\xff"]), "is not UTF-8"),
    "byte that is none": (with_array(TOKENS, lambda tokens: [*tokens[:4], "<0", *tokens[5:]]), "is to be a byte"),
    "byte that is missing": (
        with_array(TYPES, lambda types: [1] * 264, with_array(TOKENS, lambda t: [*t[:204], "x", *t[205:]])),
        "no token for the byte 200",
    ),
    "vocabulary without ends": (
        with_array(TOKENS, lambda t: t[:2], without(SCORES, without(TYPES))), "eos_token_id is 2, but there are 2"
    ),
    "BOS beyond the vocabulary": (model(tokenizer__ggml__bos_token_id=264), "is 264, but there are 264 tokens"),
    "EOS beyond the vocabulary": (model(tokenizer__ggml__eos_token_id=2**32 - 1), "4294967295, but there are 264"),
    "padding beyond the vocabulary": (
        with_entry("tokenizer.ggml.padding_token_id", UINT32, 2**31), "but there are 264 tokens"
    ),
    "BOS of another type": (of_type("tokenizer.ggml.bos_token_id", FLOAT32, 1.0), "bos_token_id is no 32-bit number"),
    "flag of another type": (of_type("tokenizer.ggml.add_bos_token", UINT32, 1), "is neither true nor false"),
    "chat template of another type": (of_type("tokenizer.chat_template", UINT32, 1), "chat_template is no text"),
    "merges of numbers": (
        of_type("tokenizer.ggml.merges", INT32, [1], language_model(vocabulary=byte_level())), "is no list of texts"
    ),
    "unknown tokenizer": (model(tokenizer__ggml__model="rwkv"), "is neither llama nor gpt2"),
    "no head": (model(llama__attention__head_count=0), "head_count is no number between 1 and"),
    "no head of keys": (model(llama__attention__head_count_kv=0), "head_count_kv is no number between 1 and"),
    "heads that can't share": (model(llama__attention__head_count=3), "its 3 heads can't share 2"),
    "more heads than dimensions": (model(llama__attention__head_count=128), "should have"),
    "no block": (model(llama__block_count=0), "block_count is no number between 1 and 512"),
    "blocks beyond the array": (model(llama__block_count=513), "block_count is no number between 1 and 512"),
    "more blocks than tensors": (model(llama__block_count=2), "it has no tensor 'blk.1."),
    "blocks beyond the array, of an architecture that isn't checked further": (
        with_entry("qwen2.block_count", UINT32, 2**31, made=model(general__architecture="qwen2")), "is no number"
    ),
    "no context": (model(llama__context_length=0), "context_length is no number between 1 and"),
    "context that overflows": (model(llama__context_length=2**31), "context_length is no number between 1 and"),
    "no embedding": (model(llama__embedding_length=0), "embedding_length is no number between 1 and"),
    "size as text": (of_type("llama.embedding_length", TEXT, "64"), "embedding_length is no number"),
    "size as a list": (with_entry("llama.expert_count", UINT32, [8], True), "expert_count is no number"),
    "missing size": (without("llama.feed_forward_length"), "it has no llama.feed_forward_length"),
    "rotation of an odd number": (model(llama__rope__dimension_count=31), "it rotates 31 of 32"),
    "rotation of more than a head": (model(llama__rope__dimension_count=64), "it rotates 64 of 32"),
    "keys and values of different lengths": (model(llama__attention__key_length=16), "differ in length"),
    "negative epsilon": (
        of_type("llama.attention.layer_norm_rms_epsilon", FLOAT32, -1.0), "is not between 0 and 1"
    ),
    "epsilon that is no number": (
        of_type("llama.attention.layer_norm_rms_epsilon", FLOAT32, float("nan")), "is no finite number"
    ),
    "unknown scaling": (model(llama__rope__scaling__type="x"), "rope.scaling.type is not among"),
    "experts without use": (with_entry("llama.expert_count", UINT32, 8), "it uses 0 of 8 experts"),
    "more experts used than there are": (with_entry("llama.expert_used_count", UINT32, 2), "it uses 2 of 0 experts"),
    "attention to what is to come": (with_entry("llama.attention.causal", BOOL, False), "causal is not true"),
    "predicted tokens of other architectures": (
        with_entry("llama.nextn_predict_layers", UINT32, 1), "is for other architectures"
    ),
    "norm of 16 bits": (with_tensor(1, kind=1), "is one row of another type than float32"),
    "missing attention, which llama.cpp goes on without": (
        without_tensor(5, language_model("phi3")), "it has no tensor 'blk.0.attn_qkv.weight'"
    ),
    "embedding of another vocabulary": (
        with_tensor(0, shape=(64, 263)), "token_embd.weight' has the shape (64, 263), and should have (64, 264)"
    ),
    "projector of another kind": (projector().with_values(clip__projector_type="mlp"), "it is no vision tower"),
    "projector without patches": (projector().with_values(clip__vision__patch_size=0), "is 0, not between 1 and 256"),
    "projector without heads": (
        projector().with_values(**{"clip__vision__attention.head_count": 0}), "is 0, not between 1 and 1024"
    ),
    "projector of huge images": (projector().with_values(clip__vision__image_size=2**31), "not between 1 and 8192"),
    "projector with a size as text": (
        of_type("clip.vision.patch_size", TEXT, "14", projector()), "is of another type than it should be"
    ),
    "projector with an unknown entry": (
        with_entry("clip.minicpmv_version", TEXT, "x", made=projector()), "is unknown for a projector"
    ),
    "projector with two colours": (
        with_array("clip.vision.image_std", lambda std: std[:2], projector()), "is not three numbers"
    ),
    "projector that divides by zero": (
        with_array("clip.vision.image_std", lambda std: [0.0, *std[1:]], projector()), "has an impossible value"
    ),
    "projector with a matrix of another shape": (
        with_tensor(5, projector(), shape=(32, 64)), "has the shape (32, 64), and should have (64, 64)"
    ),
    "projector without a matrix": (without_tensor(9, projector()), "it has no tensor 'v.blk.0.attn_q.weight'"),
    "projector with an unknown tensor": (
        with_tensor(0, projector(), name="v.class_embd"), "is unknown for a projector 'pixtral'"
    ),
    "projector with half a merger": (without_tensor(3, projector()), "but not the other"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_with_a_line(attack: str):
    made, line = ATTACKS[attack]
    with pytest.raises(UserError) as error:
        checked_header(made if isinstance(made, bytes) else made.encoded(), "model.gguf")
    text = str(error.value)
    assert text.startswith("model.gguf: is no sound GGUF file: ")
    assert text.endswith("; make it again or fetch it again")
    assert line in text
    assert text.isprintable(), "it is one line"


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_weights_of_types_that_llama_cpp_can_not_compute_with_are_refused(kind: int):
    made = language_model()
    made.tensors[2].kind, made.tensors[2].shape = kind, (256, 66)
    with pytest.raises(UserError, match=r"no sound GGUF file: tensor 'output.weight' has the "):
        checked_header(made.encoded(), "model.gguf")
    made = language_model()
    made.tensors.append(Weights("more.weight", (256, 1), kind))
    with pytest.raises(UserError, match=rf"tensor 'more.weight' has the type {kind}, which is none of weights"):
        checked_header(made.encoded(), "model.gguf")


@pytest.mark.parametrize("name", all_made())
def test_sound_files_of_each_kind_pass(name: str):
    made = all_made()[name]
    header = checked_header(made.encoded(), "model.gguf")
    assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in made.tensors]


def test_the_check_of_a_real_models_size_is_quicker_than_the_gguf_librarys_reader(tmp_path):
    from gguf import GGUFReader

    tokens, made = 32_000, language_model()
    for key, value in ((TOKENS, "token {}"), (SCORES, 0.0), (TYPES, 1)):
        entry = made.entry(key)
        more = range(len(entry.value), tokens)
        entry.value = [*entry.value, *(value.format(n) if isinstance(value, str) else value for n in more)]
    for tensor in made.tensors[:3:2]:
        tensor.shape = (64, tokens)
    path = tmp_path / "model.gguf"
    path.write_bytes(made.encoded())

    def seconds(read) -> float:
        begun = time.thread_time()
        read(path)
        return time.thread_time() - begun

    assert min(seconds(read_header) for _ in range(3)) < seconds(GGUFReader) / 3


@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if kind not in NO_WEIGHTS])
def test_every_quantization_passes(kind: int):
    checked_header(language_model(kind=kind).encoded(), "model.gguf")
