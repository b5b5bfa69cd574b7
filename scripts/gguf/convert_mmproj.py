"""Convert the vision tower and the projector of a merged model to a bf16 GGUF file, with llama.cpp's converter.

    python scripts/gguf/convert_mmproj.py results/runs/titles/merged --tools results/tools/llama.cpp \\
        --base results/models/mistral3/manifest.json --output results/runs/titles/gguf/mmproj.gguf \\
        --settings @settings.json

llama.cpp reads it in addition to the model's file (`--mmproj`). Settings that llama.cpp does not support are errors.
"""

import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.gguf.convert_to_gguf import conversion_main, described, write_gguf
from scripts.gguf.metadata import IMAGE_TAG, metadata_changes
from scripts.gguf.mmproj import LONGEST_EDGE
from scripts.gguf.reader import GgufFile
from scripts.gguf.rewrite import Value
from scripts.gguf.tokenizer_repairs import stage_folder
from scripts.gguf.vision_weights import write_vision_weights

ARCHITECTURE = "Mistral3ForConditionalGeneration"
BREAK = "[IMG_BREAK]"
BICUBIC = 3  # PIL's number
ROPE_BASE = 10000.0  # fixed in llama.cpp for this projector (tools/mtmd/clip.cpp)


def check_config(folder: Path) -> None:
    """Raise UserError for a model that llama.cpp's Pixtral code does not support."""
    config = read_json(folder / "config.json")
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
    """Fill `staged` with the files that the converter needs; raises UserError for a model without support."""
    check_config(folder)
    image_settings(folder)
    token = tokenizer.get_vocab().get(BREAK)
    if token is None:
        raise UserError(f"has no token {BREAK}, which ends a row of an image", folder)
    stage_folder(folder, staged, tokenizer)
    for path in staged.glob("*.safetensors*"):
        path.unlink()
    write_vision_weights(folder, staged / "model.safetensors", token)


def convert_mmproj(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert the vision part of a merged model folder; `base` is the base model's manifest."""

    def changes(_tokenizer, header: GgufFile) -> dict[str, Value | None]:
        edge = image_settings(merged)["size"]["longest_edge"]
        wanted = described(header, base, settings, IMAGE_TAG)
        return {**metadata_changes(list(header.values), wanted), LONGEST_EDGE: edge}

    write_gguf(merged, tools, output, stage_vision, changes, "--mmproj")


main = conversion_main(convert_mmproj, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
