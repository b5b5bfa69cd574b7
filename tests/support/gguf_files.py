"""Real small GGUF files, sound and spoilt, for tests."""

import json
from collections.abc import Callable
from pathlib import Path

from scripts.common.files import write_manifest
from scripts.config.models import Model
from scripts.gguf.convert_to_gguf import convert_to_gguf
from scripts.gguf.reader import read_gguf
from scripts.gguf.rewrite import Value, changed_head
from scripts.model.dequantize_gguf import dequantize_gguf

ROOT = Path(__file__).resolve().parent.parent.parent
CONVERTER = ROOT / "envs" / "converter.txt"
TEST_RECORDS = [
    {
        "id": "a",
        "messages": [{"role": "user", "content": "Le but ?"}, {"role": "assistant", "content": "De la tête !"}],
    },
    {"id": "b", "messages": [{"role": "user", "content": "Kể chuyện."}, {"role": "assistant", "content": "Ngày xưa…"}]},
]
PARAMETERS = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1}


def conversion_settings() -> dict:
    """Return the settings of a conversion."""
    return {
        "run": "football",
        "model_key": "tiny",
        "dataset_key": "commentary",
        "project": {"name": "snaketune", "organization": None, "author": None, "version": "v1.0", "url": None},
        "model": {"name": None, "license": None, "hub": None, "path": None, "gguf": None},
        "dataset": {"hub": None, "language": "fr"},
        "deploy": {"description": "", "parameters": PARAMETERS},
    }


def convert(merged: Path, tools: Path, output: Path, step: Callable = convert_to_gguf) -> Path:
    """Convert a model folder by a step; its manifest is made anew and is the base's as well."""
    (merged / "manifest.json").unlink(missing_ok=True)
    write_manifest(merged, name="tiny", source="embedded", license="CC0-1.0", revision=None)
    step(merged, tools, merged / "manifest.json", output, conversion_settings())
    return output


def dequantized(path: Path, folder: Path, architecture: str = "llama", licence: str | None = None, **origin) -> Path:
    """Make a model folder of a GGUF file, as the rule does; `origin` are further keys of the model's `gguf`."""
    section = {"architecture": architecture, "license": licence, "gguf": {"file": path.name, **origin}}
    dequantize_gguf(path, folder, "base", Model.model_validate(section).model_dump(mode="json"))
    return folder


def changed(source: Path, target: Path, changes: dict[str, Value | None]) -> Path:
    """Return a copy of a GGUF file with other metadata."""
    header, content = read_gguf(source), source.read_bytes()
    target.write_bytes(changed_head(content, header, changes) + content[header.data_start :])
    return target


def as_ordinary_text(source: Path, target: Path, token: str) -> Path:
    """Return a copy of a GGUF file in which a special token is ordinary text."""
    from gguf import GGUFReader

    target.write_bytes(source.read_bytes())
    reader = GGUFReader(target, "r+")
    place = reader.fields["tokenizer.ggml.tokens"].contents().index(token)
    field = reader.fields["tokenizer.ggml.token_type"]
    field.parts[field.data[place]][0] = 1
    reader.data.flush()
    return target


def with_scaled_tensor(source: Path, target: Path, name: str, factor: float) -> Path:
    """Return a copy of a GGUF file in which the weights of one float32 tensor are scaled."""
    from gguf import GGUFReader

    target.write_bytes(source.read_bytes())
    reader = GGUFReader(target, "r+")
    tensor = next(tensor for tensor in reader.tensors if tensor.name == name)
    tensor.data[...] = tensor.data * factor
    reader.data.flush()
    return target


def write_test_records(path: Path) -> Path:
    """Write the records of a test split."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TEST_RECORDS), encoding="utf-8")
    return path
