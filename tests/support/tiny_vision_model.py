"""A very small Mistral 3 with a Pixtral vision tower, random weights, and images for it; for tests."""

import json
from pathlib import Path

from tests.support.tiny_model import make_tiny_tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATE = (ROOT / "scripts" / "model" / "templates" / "mistral3.jinja").read_text(encoding="utf-8")
SYMBOLS = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
PATCH, MERGE, LONGEST_EDGE = 14, 2, 112
SIZES = {"square": (112, 112), "wide": (100, 40), "tall": (30, 95), "large": (301, 203), "tiny": (9, 5)}


def make_tiny_vision_model(folder: Path, vision_layers: int = 3, seed: int = 0) -> Path:
    """Make a vision model whose images matter to what it says next; return its folder."""
    import torch
    from transformers import AutoTokenizer, Mistral3Config, Mistral3ForConditionalGeneration, PixtralProcessor
    from transformers.models.pixtral import PixtralImageProcessor

    make_tiny_tokenizer(folder, template=TEMPLATE, symbols=SYMBOLS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(seed)
    config = Mistral3Config(
        text_config={
            "model_type": "mistral",
            "vocab_size": len(tokenizer),
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "sliding_window": None,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": False,
        },
        vision_config={
            "model_type": "pixtral",
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": 2,
            "head_dim": 64,
            "image_size": LONGEST_EDGE,
            "patch_size": PATCH,
            "hidden_act": "silu",
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=MERGE,
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    model = Mistral3ForConditionalGeneration(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(8)
        for name, weight in model.named_parameters():
            if ("vision_tower" in name or "projector" in name) and weight.dim() > 1:
                weight.mul_(weight[0].numel() ** -0.5 / weight.std())
        model.model.multi_modal_projector.linear_2.weight.mul_(0.05)
    model.to(torch.bfloat16).save_pretrained(folder)
    images = PixtralImageProcessor(size={"longest_edge": LONGEST_EDGE}, patch_size={"height": PATCH, "width": PATCH})
    PixtralProcessor(
        images, tokenizer, patch_size=PATCH, spatial_merge_size=MERGE, chat_template=TEMPLATE
    ).save_pretrained(folder)
    make_tiny_tokenizer(folder, template=TEMPLATE, symbols=SYMBOLS)  # as a merge copies it: saving loses keys
    return folder


def write_images(folder: Path) -> dict[str, str]:
    """Write an image of each size into `images/` of a dataset's folder; return their names in records."""
    import numpy
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    found = {}
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        cells = numpy.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=numpy.uint8)
        found[name] = f"images/{name}.png"
        Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC).save(folder / found[name])
    return found


def image_question(*parts: str, system: str | None = None) -> list[dict]:
    """Return the messages of a question; a part that begins with `images/` is an image."""
    content = [
        {"type": "image", "image": part} if part.startswith("images/") else {"type": "text", "text": part}
        for part in parts
    ]
    before = [{"role": "system", "content": system}] if system else []
    return [*before, {"role": "user", "content": content}]


def write_image_records(path: Path, images: dict[str, str]) -> Path:
    """Write the records of a vision test split."""
    questions = {
        "a": image_question(images["square"], "Le titre ?"),
        "b": image_question("Décris : ", images["wide"], system="Réponds en un mot."),
        "c": image_question("Compare ", images["tall"], " et ", images["large"], " !"),
        "d": [{"role": "user", "content": "Sans image ?"}],
    }
    rows = [
        {"id": name, "messages": [*messages, {"role": "assistant", "content": "Le but, à la 23e minute."}]}
        for name, messages in questions.items()
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
