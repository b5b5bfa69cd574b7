"""Convert the vision tower and the projector of a merged model to a bf16 GGUF file, with llama.cpp's converter.

    python scripts/gguf/convert_mmproj.py results/runs/titles/merged --tools results/tools/llama.cpp \\
        --base results/models/mistral3/manifest.json --output results/runs/titles/gguf/mmproj.gguf \\
        --settings @settings.json

llama.cpp reads it in addition to the model's file (`--mmproj`). Settings that llama.cpp does not support are errors.
"""

import logging
import math
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
from scripts.gguf.vision_weights import INDEX, embedding_row, write_vision_weights

ARCHITECTURE = "Mistral3ForConditionalGeneration"
BREAK, BREAK_TENSOR = "[IMG_BREAK]", "v.token_embd.img_break"
BICUBIC = 3  # PIL's number
ROPE_BASE, PROJECTOR_EPSILON = 10000.0, 1e-5  # fixed in llama.cpp for this projector (tools/mtmd/clip.cpp)
LEAST_LAYERS = 3  # the converter confuses linear_2 of the projector with layer 2 of the tower
log = logging.getLogger(__name__)


def check_config(config: dict, folder: Path) -> None:
    """Raise UserError for a model that llama.cpp's Pixtral code does not support."""
    if "vision_config" not in config:
        raise UserError("has no vision tower", folder, remedy="the task 'vision' needs a vision model")
    vision, text = config["vision_config"], config["text_config"]
    if config["architectures"] != [ARCHITECTURE]:
        raise UserError(f"is a {', '.join(config['architectures'])}, not a {ARCHITECTURE}", folder)
    if config["vision_feature_layer"] != -1:
        raise UserError(
            f"uses layer {config['vision_feature_layer']} of the tower; llama.cpp uses the last one", folder
        )
    if vision["num_hidden_layers"] < LEAST_LAYERS:
        raise UserError(
            f"has {vision['num_hidden_layers']} vision layers; llama.cpp's converter needs {LEAST_LAYERS}", folder
        )
    if vision["head_dim"] * vision["num_attention_heads"] != vision["hidden_size"]:
        raise UserError("has vision heads that don't add up to the tower's hidden size, as llama.cpp requires", folder)
    theta = vision.get("rope_theta") or vision["rope_parameters"]["rope_theta"]
    if theta != ROPE_BASE:
        raise UserError(f"has rope_theta {theta:g} in its tower; llama.cpp uses {ROPE_BASE:g}", folder)
    if text["rms_norm_eps"] != PROJECTOR_EPSILON:
        log.warning("the projector's norm has epsilon %g, in llama.cpp %g", text["rms_norm_eps"], PROJECTOR_EPSILON)


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


def expected_values(config: dict, images: dict) -> dict:
    """Return the model's values for the metadata that llama.cpp uses to prepare images and build the tower."""
    vision = config["vision_config"]
    return {
        "clip.projector_type": "pixtral",
        "clip.vision.image_size": vision["image_size"],
        "clip.vision.patch_size": vision["patch_size"],
        "clip.vision.embedding_length": vision["hidden_size"],
        "clip.vision.feed_forward_length": vision["intermediate_size"],
        "clip.vision.block_count": vision["num_hidden_layers"],
        "clip.vision.attention.head_count": vision["num_attention_heads"],
        "clip.vision.attention.layer_norm_epsilon": vision.get("layer_norm_eps", 1e-5),
        "clip.vision.projection_dim": config["text_config"]["hidden_size"],
        "clip.vision.spatial_merge_size": config["spatial_merge_size"],
        "clip.vision.image_mean": images["image_mean"],
        "clip.vision.image_std": images["image_std"],
        LONGEST_EDGE: images["size"]["longest_edge"],
    }


def is_equal(found, wanted) -> bool:
    """Return whether a value of a GGUF file equals the wanted one, floats in single precision."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(is_equal, found, wanted))
    return math.isclose(found, wanted, rel_tol=1e-6) if isinstance(wanted, float) else found == wanted


def check_file(path: Path, expected: dict, row) -> None:
    """Raise UserError unless a file has the expected metadata and the embedding `row` [hidden size] of [IMG_BREAK]."""
    file = read_gguf(path)
    for key, wanted in expected.items():
        found = file.values.get(key)
        if found is None or not is_equal(found, wanted):
            raise UserError(f"the converted file has {key} {found}, not {wanted}: llama.cpp would see other images")
    tensors = {tensor.name: tensor for tensor in file.tensors}
    if BREAK_TENSOR not in tensors:
        raise UserError(f"the converted file lacks {BREAK_TENSOR}, without which llama.cpp refuses it")
    if file.data(tensors[BREAK_TENSOR]) != row.float().numpy().tobytes():
        raise UserError(f"{BREAK_TENSOR} of the converted file is not the embedding of {BREAK}")


def stage_vision(folder: Path, staged: Path, tokenizer) -> int:
    """Fill `staged` with the files that the converter needs; return the id of the token [IMG_BREAK]."""
    token = tokenizer.get_vocab().get(BREAK)
    if token is None:
        raise UserError(f"has no token {BREAK}, which ends a row of an image", folder)
    stage_folder(folder, staged, tokenizer)
    for path in [*staged.glob("*.safetensors"), staged / INDEX]:
        path.unlink(missing_ok=True)
    write_vision_weights(folder, staged / "model.safetensors", token)
    return token


def convert_mmproj(merged: Path, tools: Path, base: Path, output: Path, settings: dict) -> None:
    """Convert the vision part of a merged model folder; `base` is the base model's manifest."""
    from transformers import AutoTokenizer

    trusted = check_manifest(merged / "manifest.json").get("trust_remote_code", False)
    check_manifest(tools / "manifest.json")
    config = read_json(merged / "config.json")
    check_config(config, merged)
    images = image_settings(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged, trust_remote_code=trusted)
    with scratch_folder(output) as temporary:
        staged, converted = temporary / "model", temporary / "converted.gguf"
        staged.mkdir()
        token = stage_vision(merged, staged, tokenizer)
        run_converter(tools, staged, converted, "--mmproj")
        header = read_gguf(converted)
        title = display_name(settings["model"], settings["model_key"])
        name = model_name(title, header.parameters, settings["run"], settings["project"]["version"])
        wanted = general_metadata(name, settings, read_json(base).get("license"), IMAGE_TAG)
        changes = metadata_changes(list(header.values), wanted)
        with atomic_path(output) as beside:
            rewrite_metadata(converted, beside, {**changes, LONGEST_EDGE: images["size"]["longest_edge"]})
            check_file(beside, expected_values(config, images), embedding_row(merged, token))
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
