"""Convert a merged model to a bf16 GGUF file with llama.cpp's converter and metadata that follow the specification.

    python scripts/gguf/convert_to_gguf.py results/runs/football/merged --tools results/tools/llama.cpp \\
        --base results/models/mistral/manifest.json --output results/runs/football/gguf/bf16.gguf \\
        --settings @settings.json
"""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.base_model import load_tokenizer
from scripts.common.chat import render
from scripts.common.chat_template import without_generation_tags
from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError, refuse_full_disk
from scripts.common.files import atomic_path, check_manifest, read_json, scratch_folder
from scripts.common.parent_watchdog import die_with_parent
from scripts.gguf.llama import TEMPLATE_KEY
from scripts.gguf.metadata import IMAGE_TAG, TEXT_TAG, display_name, general_metadata, metadata_changes
from scripts.gguf.naming import model_name
from scripts.gguf.reader import GgufFile, read_gguf
from scripts.gguf.rewrite import Value, rewrite_metadata
from scripts.gguf.tokenizer_repairs import name_for_llama_cpp, prefixes_space, stage_folder

CONVERTER = "convert_hf_to_gguf.py"
ADD_BOS, ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"
ADD_SPACE, VOCABULARY = "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.model"
log = logging.getLogger(__name__)


def run_converter(tools: Path, folder: Path, output: Path, *more: str) -> None:
    """Run llama.cpp's converter on a model folder in a subprocess, with further options.

    Raises UserError with the line that names the error; all output goes to the log.
    """
    env_vars = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tools.resolve()), str(tools.resolve() / "gguf-py")]),
        "PYTHONDONTWRITEBYTECODE": "1",  # keeps the folder unchanged
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [sys.executable, tools / CONVERTER, folder, "--outfile", output, "--outtype", "bf16", *more]
    options = {"env": env_vars, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, **options, errors="replace", preexec_fn=die_with_parent, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    log.info("%s", "\n".join(lines))
    if done.returncode or not output.is_file():
        refuse_full_disk(output)
        faults = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|ERROR:", line)]
        fault = (faults or lines or ["no reason given"])[-1]
        raise UserError(f"llama.cpp's converter failed: {fault}", folder.name)


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


@contextmanager
def converted(merged: Path, tools: Path, output: Path, stage: Callable, *more: str) -> Iterator[tuple]:
    """Run the converter on a copy of a merged folder that `stage(folder, copy, tokenizer)` makes.

    Yields the tokenizer, and the header of the file with the converter's own metadata.
    """
    for folder in (merged, tools):
        check_manifest(folder / "manifest.json")
    tokenizer = load_tokenizer(merged / "manifest.json")
    with scratch_folder(output) as temporary:
        (temporary / "model").mkdir()
        stage(merged, temporary / "model", tokenizer)
        run_converter(tools, temporary / "model", temporary / "converted.gguf", *more)
        yield tokenizer, read_gguf(temporary / "converted.gguf")


def described(header: GgufFile, base: Path, settings: dict, task: str) -> dict[str, Value]:
    """Return the metadata that describe a run's model; `base` is the base model's manifest."""
    title = display_name(settings["model"], settings["model_key"])
    name = model_name(title, header.parameters, settings["run"], settings["project"]["version"])
    log.info("%s: %d weights", name.file_name("bf16"), header.parameters)
    return general_metadata(name, settings, read_json(base).get("license"), task)


def convert_to_gguf(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert a merged model folder; `base` is the base model's manifest."""
    with converted(merged, tools, output, stage_folder) as (tokenizer, header):
        task = IMAGE_TAG if "vision_config" in read_json(merged / "config.json") else TEXT_TAG
        wanted = described(header, base, settings, task)
        wanted["general.name"] = name_for_llama_cpp(wanted["general.name"], tokenizer)
        changes = metadata_changes(list(header.values), wanted) | chat_changes(tokenizer, header.values)
        with atomic_path(output) as beside:
            rewrite_metadata(header.path, beside, changes)


def conversion_main(convert: Callable, description: str) -> Callable[..., int]:
    """Return the `main` of a program that runs `convert` like `convert_to_gguf`."""

    def parser():
        result = step_parser(description)
        result.add_argument("merged", type=Path, help="merged Hugging Face model folder")
        result.add_argument("--tools", type=Path, required=True, help="folder that fetch_converter.py made")
        result.add_argument("--base", type=Path, required=True, help="manifest of the base model")
        result.add_argument("--output", type=Path, required=True, help="GGUF file to write")
        return result

    return step_main(lambda a: convert(a.merged, a.tools, a.base, a.output, a.settings), parser)


main = conversion_main(convert_to_gguf, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
