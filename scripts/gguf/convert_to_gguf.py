"""Convert a merged model to a bf16 GGUF file with llama.cpp's converter and metadata that follow the specification.

    python scripts/gguf/convert_to_gguf.py results/runs/football/merged --tools results/tools/llama.cpp \\
        --base results/models/mistral/manifest.json --output results/runs/football/gguf/bf16.gguf \\
        --settings @settings.json
"""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.common.base_model import load_tokenizer
from scripts.common.chat import render
from scripts.common.chat_template import without_generation_tags
from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, check_manifest, read_json, scratch_folder
from scripts.common.hashing import Hashing
from scripts.gguf.converter import run_converter
from scripts.gguf.llama import TEMPLATE_KEY
from scripts.gguf.metadata import IMAGE_TAG, TEXT_TAG, display_name, general_metadata, metadata_changes
from scripts.gguf.naming import model_name
from scripts.gguf.reader import GgufFile
from scripts.gguf.rewrite import Value
from scripts.gguf.tokenizer_repairs import name_for_llama_cpp, prefixes_space, stage_folder

ADD_BOS, ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"
ADD_SPACE, VOCABULARY = "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.model"
log = logging.getLogger(__name__)


def chat_changes(tokenizer, header_values: dict) -> dict[str, Value]:
    """Return the metadata with which a GGUF treats chats as the tokenizer does; log what differs from the converter's.

    The template's `{% generation %}` tags are removed, because llama.cpp does not know them. llama.cpp adds BOS if and
    only if the template writes it, so that it occurs once, and never EOS, because it would end each prompt.
    """
    if not tokenizer.chat_template:
        raise UserError("the merged model has no chat template", remedy="name one with 'chat_template' under its model")
    text = render(tokenizer, [{"role": "user", "content": "x"}])
    wanted = {ADD_BOS: bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)}
    for kind in ("bos", "eos"):
        if (token := getattr(tokenizer, f"{kind}_token_id")) is not None:
            wanted[f"tokenizer.ggml.{kind}_token_id"] = token
    if ADD_EOS in header_values:
        wanted[ADD_EOS] = False
    if header_values.get(VOCABULARY) == "llama":
        wanted[ADD_SPACE] = prefixes_space(tokenizer)
    for key, value in wanted.items():
        if header_values.get(key, value) != value:
            log.warning(
                "repaired: %s is %s, but the tokenizer or its chat template needs %s", key, header_values[key], value
            )
    return {TEMPLATE_KEY: without_generation_tags(tokenizer.chat_template), **wanted}


def write_gguf(merged: Path, tools: Path, output: Path, stage: Callable, changes: Callable, *more: str) -> None:
    """Run the converter on a copy of a merged folder that `stage(folder, copy, tokenizer)` makes.

    `changes(tokenizer, header)` returns the changes of the converter's metadata. The folder is checked meanwhile.
    """
    check_manifest(tools / "manifest.json")
    with Hashing() as hashing, scratch_folder(output) as temporary, atomic_path(output) as beside:
        hashing.check(merged / "manifest.json")
        tokenizer = load_tokenizer(merged / "manifest.json")
        (temporary / "model").mkdir()
        stage(merged, temporary / "model", tokenizer)
        run_converter(tools, temporary / "model", beside, lambda header: changes(tokenizer, header), *more)
        hashing.finish()


def described(header: GgufFile, base: Path, settings: dict, task: str) -> dict[str, Value]:
    """Return the metadata that describe a run's model; `base` is the base model's manifest."""
    title = display_name(settings["model"], settings["model_key"])
    name = model_name(title, header.parameters, settings["run"], settings["project"]["version"])
    log.info("%s: %d weights", name.file_name("bf16"), header.parameters)
    return general_metadata(name, settings, read_json(base).get("license"), task)


def convert_to_gguf(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert a merged model folder; `base` is the base model's manifest."""

    def changes(tokenizer, header: GgufFile) -> dict[str, Value | None]:
        task = IMAGE_TAG if "vision_config" in read_json(merged / "config.json") else TEXT_TAG
        wanted = described(header, base, settings, task)
        wanted["general.name"] = name_for_llama_cpp(wanted["general.name"], tokenizer)
        return metadata_changes(list(header.values), wanted) | chat_changes(tokenizer, header.values)

    write_gguf(merged, tools, output, stage_folder, changes)


def conversion_main(convert: Callable, description: str) -> Callable[..., int]:
    """Return the `main` of a program that runs `convert` like `convert_to_gguf`."""

    def parser():
        result = step_parser(description)
        result.add_argument("merged", type=Path, help="merged Hugging Face model folder")
        result.add_argument("--tools", type=Path, required=True, help="folder that fetch_converter.py made")
        result.add_argument("--base", type=Path, required=True, help="manifest of the base model")
        result.add_argument("--output", type=Path, required=True, help="GGUF file to write")
        return result

    def step(arguments) -> None:
        os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
        convert(arguments.merged, arguments.tools, arguments.base, arguments.output, arguments.settings)

    return step_main(step, parser)


main = conversion_main(convert_to_gguf, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
