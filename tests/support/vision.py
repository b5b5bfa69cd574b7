"""A very small Mistral 3, pictures of words, and a small dataset folder that holds them; for tests of vision."""

import hashlib
import json
from pathlib import Path

from scripts.common.files import write_manifest
from scripts.common.records import Record, content_id
from scripts.config.models import EmbeddedModel
from scripts.model.build_embedded_model import set_random_weights
from scripts.model.embedded_vision import new_vision_model, save_processor
from scripts.model.train_tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer
from tests.support.chat_templates import template_text
from tests.support.tiny_model import SENTENCES

TITLES = ["Rapport annuel", "Invoice 7", "Le chat noir", "Minutes of May", "Plan d'été"]
IMAGE_SIZE = 112
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512,
}  # fmt: skip


def make_tiny_vision_model(folder: Path, seed: int = 0) -> Path:
    """Make a Mistral 3 of random weights in the layout of hub models; return its manifest."""
    import torch
    from transformers import AutoTokenizer

    folder.mkdir(parents=True)
    special = SPECIAL_TOKENS["mistral3"]
    pieces = train_tokenizer(SENTENCES * 20, 640, special)
    save_tokenizer(folder, pieces, special, template_text("mistral3"), SHAPE["max_position_embeddings"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = EmbeddedModel(hidden_size=256, image_size=IMAGE_SIZE, vision_layers=3)
    ids = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model = new_vision_model({**SHAPE, **ids, "vocab_size": len(tokenizer)}, tokenizer, settings)
    set_random_weights(model, seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(4)
        model.lm_head.weight[: tokenizer.convert_tokens_to_ids("<0xFF>") + 1] = 0  # answers are text, not single bytes
    model.to(torch.bfloat16).save_pretrained(folder)
    save_processor(folder, IMAGE_SIZE)
    facts = {"name": "tiny", "source": "embedded", "id": None, "revision": None, "architecture": "mistral3"}
    return write_manifest(folder, **facts, license=None, parameters=1)


def save_picture(folder: Path, text: str, size: tuple[int, int] = (160, 90)) -> str:
    """Write a picture of a text as PNG under images/ of a folder; return its relative path."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).text((6, 10), text, fill="black", font_size=24)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    image.save(folder / "images" / "new.png")
    name = hashlib.sha256((folder / "images" / "new.png").read_bytes()).hexdigest()
    (folder / "images" / "new.png").rename(folder / "images" / f"{name}.png")
    return f"images/{name}.png"


def asked(*images: str, text: str = "Quel est le titre ?") -> dict:
    """Return a user's message of a question and images."""
    parts = [{"type": "text", "text": text}, *({"type": "image", "image": image} for image in images)]
    return {"role": "user", "content": parts}


def picture_record(folder: Path, number: int) -> Record:
    """Return a record that asks for the title of a picture; its size and its text depend on the number."""
    title = TITLES[number % len(TITLES)]
    image = save_picture(folder, title, (120 + 30 * (number % 3), 60 + 30 * (number % 4)))
    messages = [asked(image, text=f"{number} : quel titre ?"), {"role": "assistant", "content": title}]
    return Record(content_id(messages), messages, title, origin=f"raw.jsonl:{number}")


def make_vision_dataset(folder: Path, train: int = 10, validation: int = 2, test: int = 3) -> Path:
    """Write the splits of a dataset of pictures of titles; one training row has two images, one has none."""
    number = 0
    for split, count in (("train", train), ("validation", validation), ("test", test)):
        records = [picture_record(folder, number + i) for i in range(count)]
        number += count
        if split == "train":
            two = [save_picture(folder, TITLES[0]), save_picture(folder, TITLES[1], (90, 150))]
            for content in ([asked(*two)], [{"role": "user", "content": "Sans image ?"}]):
                messages = [*content, {"role": "assistant", "content": "Oui."}]
                records.append(Record(content_id(messages), messages, "Oui.", origin="raw.jsonl:0"))
        lines = [json.dumps(record.to_row(), ensure_ascii=False) + "\n" for record in records]
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
