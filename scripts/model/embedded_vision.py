"""The embedded Mistral 3: the text model of the embedded Mistral with a small Pixtral vision tower before it.

Patch size, merging of patches, special tokens, processor and names of the tensors are those of
Mistral-Small-3.1-24B-Instruct-2503; only the sizes are small. The tower is not trained: what it sees differs from image
to image, but means nothing until a run trains on it.
"""

from pathlib import Path

from scripts.common.config.models import EmbeddedModel
from scripts.common.files import write_json

PATCH_SIZE = 14
SPATIAL_MERGE_SIZE = 2
IMAGE_TOKENS = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}


def new_vision_model(text: dict, tokenizer, settings: EmbeddedModel):
    """Return an untrained Mistral 3; `text` is the shape of its text part, as of a MistralConfig."""
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


def make_images_felt(model, seed: int) -> None:
    """Set the scale of the untrained tower and projector so that images matter beside words, and differ.

    With the usual small first weights, images would be next to nothing beside the text's embeddings, and what little
    there is would be what all images have in common. That part is projected out on a few random pages, and the rest is
    scaled to the size of the text's embeddings.
    """
    import torch

    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    pages, sizes = random_pages(model.config.vision_config.image_size, seed)
    hidden = []
    hook = projector.linear_2.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0]))
    model.eval()
    with torch.no_grad():
        for weight in (*tower.parameters(), *projector.parameters()):
            if weight.dim() > 1:
                weight.mul_(weight[0].numel() ** -0.5 / weight.std())
        model.get_image_features(pages, sizes)
        common = torch.nn.functional.normalize(hidden[0].flatten(0, -2).mean(0), dim=0)
        weight = projector.linear_2.weight
        weight.sub_(torch.outer(weight @ common, common))
        features = torch.cat(model.get_image_features(pages, sizes).pooler_output)
        weight.mul_(model.get_input_embeddings().weight.std() / features.std())
    hook.remove()


def random_pages(longest_edge: int, seed: int, pages: int = 4):
    """Return pixel values [pages, 3, edge, edge] of white pages with dark spots, and their sizes [pages, 2]."""
    import torch

    cell = PATCH_SIZE // 2
    cells = longest_edge // (PATCH_SIZE * SPATIAL_MERGE_SIZE) * SPATIAL_MERGE_SIZE * 2
    dark = torch.rand(pages, 1, cells, cells, generator=torch.Generator().manual_seed(seed)) < 0.2
    pixels = torch.where(dark, -1.8, 1.9).repeat_interleave(cell, 2).repeat_interleave(cell, 3)
    return pixels.expand(-1, 3, -1, -1), torch.tensor([[cells * cell, cells * cell]] * pages)


def save_processor(folder: Path, image_size: int) -> None:
    """Write the two files from which transformers makes a PixtralProcessor, in the layout that hub models have.

    `image_size` is the longest edge, in pixels, that an image may have; larger ones are scaled. Mean and deviation of
    the colours are those of CLIP (arXiv:2103.00020), which Pixtral took over.
    """
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "PixtralImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "patch_size": PATCH_SIZE,
            "processor_class": "PixtralProcessor",
            "resample": 3,
            "rescale_factor": 1 / 255,
            "size": {"longest_edge": image_size},
        },
        part=True,
    )
    write_json(
        folder / "processor_config.json",
        {
            **IMAGE_TOKENS,
            "patch_size": PATCH_SIZE,
            "processor_class": "PixtralProcessor",
            "spatial_merge_size": SPATIAL_MERGE_SIZE,
        },
        part=True,
    )
