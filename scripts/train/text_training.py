"""Training of text runs; a task that trains otherwise has a subclass of `TextTraining` (see train_model.py)."""

from pathlib import Path

from datasets import Dataset

from scripts.common.base_model import load_tokenizer
from scripts.train.arguments import lora_config
from scripts.train.batches import Collator
from scripts.train.trainer import Trainer


class TextTraining:
    """The tokenizer, collator and trainer of a run, and how its rows and model are prepared.

    `options` are further ones of the trainer, `manifest` further facts for the manifest of the trained model.
    """

    trainer = Trainer

    def __init__(self, base: Path, images: Path | None, settings: dict):
        self.settings, self.tokenizer = settings, load_tokenizer(base)
        self.collator, self.options, self.manifest = Collator(self.tokenizer.pad_token_id), {}, {}

    def rows(self, dataset: Dataset) -> Dataset:
        """Return tokenized rows as the collator takes them."""
        return dataset

    def freeze(self, model) -> None:
        """Freeze the untrained parts of a model."""

    def lora_config(self, model):
        """Return PEFT's configuration of the adapter."""
        return lora_config(self.settings["lora"])

    def facts(self, rows: Dataset) -> dict:
        """Return further facts on the training."""
        return {}
