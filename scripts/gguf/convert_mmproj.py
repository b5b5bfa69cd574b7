"""Convert the vision tower and the projector of a merged model to a bf16 GGUF file, with llama.cpp's converter.

    python scripts/gguf/convert_mmproj.py results/runs/titles/merged --tools results/tools/llama.cpp \\
        --base results/models/mistral3/manifest.json --output results/runs/titles/gguf/mmproj.gguf \\
        --settings @settings.json

llama.cpp reads it in addition to the model's file (`--mmproj`). Settings that llama.cpp does not support are errors.
"""

import logging
import sys
from pathlib import Path

from scripts.common.cli import run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, check_manifest, read_json, scratch_folder
from scripts.gguf.convert_to_gguf import run_converter
from scripts.gguf.metadata import IMAGE_TAG, display_name, general_metadata, metadata_changes
from scripts.gguf.mmproj import LONGEST_EDGE
from scripts.gguf.naming import model_name
from scripts.gguf.reader import read_gguf
from scripts.gguf.rewrite import rewrite_metadata
from scripts.gguf.tokenizer_repairs import stage_folder
from scripts.gguf.vision_weights import write_vision_weights

ARCHITECTURE = "Mistral3ForConditionalGeneration"
BREAK = "[IMG_BREAK]"
BICUBIC = 3  # PIL's number
ROPE_BASE = 10000.0  # fixed in llama.cpp for this projector (tools/mtmd/clip.cpp)
log = logging.getLogger(__name__)


def check_config(config: dict, folder: Path) -> None:
    """Raise UserError for a model that llama.cpp's Pixtral code does not support."""
    if "vision_config" not in config:
        raise UserError("has no vision tower", folder, remedy="the task 'vision' needs a vision model")
    vision = config["vision_config"]
    if config["architectures"] != [ARCHITECTURE]:
        raise UserError(f"is a {', '.join(config['architectures'])}, not a {ARCHITECTURE}", folder)
    if config["vision_feature_layer"] != -1:
        raise UserError(
            f"uses layer {config['vision_feature_layer']} of the tower; llama.cpp uses the last one", folder
        )
    theta = vision.get("rope_theta") or vision["rope_parameters"]["rope_theta"]
    if theta != ROPE_BASE:
        raise UserError(f"has rope_theta {theta:g} in its tower; llama.cpp uses {ROPE_BASE:g}", folder)


def image_settings(folder: Path) -> dict:
    """Return the image processor's settings from either of the files that may hold them.

    Raises UserError if there are none, or for a scaling method that llama.cpp does not have.
    """
    files = [folder / name for name in ("processor_config.json", "preprocessor_config.json")]
    contents = [read_json(path) for path in files if path.is_file()]
    found = [content.get("image_processor", content) for content in contents]
    settings = next((entry for entry in found if "image_mean" in entry), None)
    if settings is None:
        raise UserError("has no image processor settings", folder, remedy="save the processor with the model")
    if settings["resample"] != BICUBIC:
        raise UserError(f"scales images with method {settings['resample']}; llama.cpp uses {BICUBIC} (bicubic)", folder)
    return settings


def stage_vision(folder: Path, staged: Path, tokenizer) -> None:
    """Fill `staged` with the files that the converter needs."""
    token = tokenizer.get_vocab().get(BREAK)
    if token is None:
        raise UserError(f"has no token {BREAK}, which ends a row of an image", folder)
    stage_folder(folder, staged, tokenizer)
    for path in staged.glob("*.safetensors*"):
        path.unlink()
    write_vision_weights(folder, staged / "model.safetensors", token)


def convert_mmproj(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert the vision part of a merged model folder; `base` is the base model's manifest."""
    from transformers import AutoTokenizer

    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    check_manifest(tools / "manifest.json")
    check_config(read_json(merged / "config.json"), merged)
    images = image_settings(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted)
    with scratch_folder(output) as temporary:
        staged, converted = temporary / "model", temporary / "converted.gguf"
        staged.mkdir()
        stage_vision(merged, staged, tokenizer)
        run_converter(tools, staged, converted, "--mmproj")
        header = read_gguf(converted)
        title = display_name(settings["model"], settings["model_key"])
        name = model_name(title, header.parameters, settings["run"], settings["project"]["version"])
        wanted = general_metadata(name, settings, read_json(base).get("license"), IMAGE_TAG)
        changes = metadata_changes(list(header.values), wanted)
        with atomic_path(output) as beside:
            rewrite_metadata(converted, beside, {**changes, LONGEST_EDGE: images["size"]["longest_edge"]})
    log.info("%s: %d weights", name.file_name("bf16"), header.parameters)


def step(arguments) -> None:
    """Run the step."""
    convert_mmproj(arguments.merged, arguments.tools, arguments.base, arguments.output, arguments.settings)


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
