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
from pathlib import Path

from scripts.common.chat import render
from scripts.common.chat_template import without_generation_tags
from scripts.common.cli import Progress, run_step, step_parser
from scripts.common.errors import UserError, refuse_full_disk
from scripts.common.files import atomic_path, check_manifest, read_json, scratch_folder
from scripts.common.parent_watchdog import die_with_parent
from scripts.gguf.llama import TEMPLATE_KEY
from scripts.gguf.metadata import IMAGE_TAG, TEXT_TAG, display_name, general_metadata, metadata_changes
from scripts.gguf.naming import model_name
from scripts.gguf.reader import read_gguf
from scripts.gguf.rewrite import Value, rewrite_metadata
from scripts.gguf.tokenizer_repairs import name_for_llama_cpp, prefixes_space, stage_folder

CONVERTER = "convert_hf_to_gguf.py"
ADD_BOS, ADD_EOS = "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"
ADD_SPACE, VOCABULARY = "tokenizer.ggml.add_space_prefix", "tokenizer.ggml.model"
QUANTIZATION_VERSION = "general.quantization_version"
QUANTIZATION_FORMAT = 2  # GGML_QNT_VERSION
WRITTEN = re.compile(r"\s*Writing:\s+(\d+)%")
log = logging.getLogger(__name__)


def run_converter(tools: Path, folder: Path, output: Path, *options: str) -> None:
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
    command = [sys.executable, str(tools / CONVERTER), str(folder), "--outfile", str(output), "--outtype", "bf16"]
    command += options
    said, bar = [], Progress("convert to GGUF", 100)
    with subprocess.Popen(
        command,
        env=env_vars,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=die_with_parent,
    ) as process:
        for line in process.stdout:
            if written := WRITTEN.match(line):
                bar.advance(int(written[1]) - bar.done)
            else:
                said.append(line)
    output_text = "".join(said)
    log.info("%s", output_text.strip())
    if process.returncode or not output.is_file():
        refuse_full_disk(output)
        raise UserError(f"llama.cpp's converter failed: {converter_fault(output_text)}", folder.name)


def converter_fault(output: str) -> str:
    """Return the line of the converter's output that names the error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    faults = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|ERROR:", line)]
    return (faults or lines or ["no reason given"])[-1]


def chat_changes(tokenizer, header_values: dict) -> dict[str, Value]:
    """Return the metadata with which a GGUF treats chats as the tokenizer does; log what differs from the converter's.

    The template's `{% generation %}` tags are removed, because llama.cpp does not know them. llama.cpp adds BOS if and
    only if the template writes it, so that it occurs once, and never EOS, because it would end each prompt.
    """
    if not tokenizer.chat_template:
        raise UserError("the merged model has no chat template", remedy="name one with 'chat_template' under its model")
    text = render(tokenizer, [{"role": "user", "content": "x"}], add_generation_prompt=True)
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
                "mended: %s is %s, but the tokenizer or its chat template needs %s", key, header_values[key], value
            )
    return {TEMPLATE_KEY: without_generation_tags(tokenizer.chat_template), **wanted}


def convert_to_gguf(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert a merged model folder; `base` is the base model's manifest."""
    from transformers import AutoTokenizer

    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    check_manifest(tools / "manifest.json")
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted)
    with scratch_folder(output) as temporary:
        staged, converted = temporary / "model", temporary / "converted.gguf"
        staged.mkdir()
        stage_folder(merged, staged, tokenizer)
        run_converter(tools, staged, converted)
        header = read_gguf(converted)
        title = display_name(settings["model"], settings["model_key"])
        name = model_name(title, header.parameters, settings["run"], settings["project"]["version"])
        task = IMAGE_TAG if "vision_config" in read_json(merged / "config.json") else TEXT_TAG
        wanted = general_metadata(name, settings, read_json(base).get("license"), task)
        wanted["general.name"] = name_for_llama_cpp(wanted["general.name"], tokenizer)
        changes = metadata_changes(list(header.values), wanted) | chat_changes(tokenizer, header.values)
        if QUANTIZATION_VERSION not in header.values:
            changes[QUANTIZATION_VERSION] = QUANTIZATION_FORMAT
        with atomic_path(output) as beside:
            rewrite_metadata(converted, beside, changes)
    log.info("%s: %d weights", name.file_name("bf16"), header.parameters)


def step(arguments) -> None:
    """Run the step."""
    convert_to_gguf(arguments.merged, arguments.tools, arguments.base, arguments.output, arguments.settings)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("merged", type=Path, help="merged Hugging Face model folder")
    result.add_argument("--tools", type=Path, required=True, help="folder that fetch_converter.py made")
    result.add_argument("--base", type=Path, required=True, help="manifest of the base model")
    result.add_argument("--output", type=Path, required=True, help="GGUF file to write")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
