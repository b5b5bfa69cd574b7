"""Training of LoRA on the backbone jointly with the linear head of a token classifier."""

import copy
from pathlib import Path

from datasets import Dataset
from peft import get_peft_model_state_dict, prepare_model_for_kbit_training
from safetensors.torch import save_file

from scripts.common.files import check_manifest
from scripts.train.arguments import lora_config, uses_checkpointing
from scripts.train.features import Rows
from scripts.train.head_model import class_weights, load_classifier
from scripts.train.head_run import HeadRun
from scripts.train.text_training import TextTraining
from scripts.train.trainer import SpanTrainer
from scripts.train.training_run import tidy_adapter_config

HEAD_NAME = "score"


class SpanTraining(TextTraining):
    """The training of an adapter and a fully trained head, over rows {input_ids, labels} with a label per token."""

    trainer = SpanTrainer

    def __init__(self, run: HeadRun):
        super().__init__(run)
        counts = Rows(run.tokens / "train.arrow").counts(len(run.labels))
        self.options = {"class_weights": class_weights(self.settings["head"]["class_weights"], counts)}

    def load(self):
        """Load the base as token classifier."""
        return load_classifier(self.run)

    def rows(self, split: str) -> Dataset:
        """Return a split's rows as the collator takes them."""
        return super().rows(split).select_columns(["input_ids", "labels"])

    def pack(self, rows: Dataset, model, folder: Path) -> Dataset:
        """Return the rows as they are."""
        return rows

    def prepare(self, model) -> None:
        """Prepare a 4-bit backbone for training, and gradient checkpointing."""
        checkpointing = uses_checkpointing(self.settings["training"])
        if self.run.quantization:
            prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        elif checkpointing:
            model.enable_input_require_grads()

    def lora_config(self, model):
        """Return PEFT's configuration: LoRA on the backbone; the head in full."""
        config = lora_config(self.settings["lora"])
        config.task_type, config.modules_to_save, config.exclude_modules = None, [HEAD_NAME], [HEAD_NAME]
        return config

    def facts(self, rows: Dataset) -> dict:
        """Return the loss weight of each class."""
        return {"class_weights": self.run.weight_of_labels(self.options["class_weights"])}

    def save(self, model) -> None:
        """Write the folder of head and adapter."""
        head = model.get_submodule(f"base_model.model.{HEAD_NAME}").modules_to_save["default"]
        self.run.save(head, lambda folder: save_adapter(model, self.run.base, folder))


def save_adapter(model, base: Path, folder: Path) -> None:
    """Write the LoRA weights as plain PEFT files; the head has its own file."""
    trained = get_peft_model_state_dict(model)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.items() if ".lora_" in name}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
    config = copy.copy(model.peft_config["default"])
    config.target_modules = {name for name in config.target_modules if name != HEAD_NAME}
    config.modules_to_save = config.exclude_modules = None
    config.save_pretrained(folder)
    tidy_adapter_config(folder / "adapter_config.json", base, check_manifest(base))
