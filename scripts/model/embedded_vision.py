"""The embedded Mistral 3: the text model of the embedded Mistral with a small Pixtral vision tower.

Patch size, merging of patches, special tokens, processor and names of the tensors are those of
Mistral-Small-3.1-24B-Instruct-2503; only the sizes are small.
"""

from pathlib import Path

from scripts.common.files import write_json
from scripts.config.models import EmbeddedModel

PATCH_SIZE = 14
SPATIAL_MERGE_SIZE = 2
IMAGE_TOKENS = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}


def new_vision_model(text: dict, tokenizer, settings: EmbeddedModel):
    """Return a Mistral 3; `text` has the arguments of MistralConfig for its text part."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    vision = {
        "model_type": "pixtral",
        "hidden_size": settings.hidden_size,
        "intermediate_size": settings.hidden_size * 2,
        "num_hidden_layers": settings.vision_layers,
        "num_attention_heads": settings.hidden_size // 64,
        "image_size": settings.image_size,
        "patch_size": PATCH_SIZE,
    }
    config = Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **text},
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKENS["image_token"]),
        spatial_merge_size=SPATIAL_MERGE_SIZE,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
        **{key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )
    return Mistral3ForConditionalGeneration(config)


def save_processor(folder: Path, image_size: int) -> None:
    """Write the two files of a PixtralProcessor, in the layout of hub models.

    `image_size` is the longest edge of an image in pixels; larger images are scaled down.
    """
    from transformers.models.pixtral import PixtralImageProcessor

    PixtralImageProcessor(size={"longest_edge": image_size}, patch_size=PATCH_SIZE).save_pretrained(folder)
    sizes = {"patch_size": PATCH_SIZE, "spatial_merge_size": SPATIAL_MERGE_SIZE}
    settings = {**IMAGE_TOKENS, **sizes, "processor_class": "PixtralProcessor"}
    write_json(folder / "processor_config.json", settings, part=True)
