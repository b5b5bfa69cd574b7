"""Training of vision runs: the trained parts of the model, and batches with images.

The language model is trained with an adapter, as in a text run. Vision tower and projector are frozen by default; if
they are trained, the projector is trained in full and the tower with its own adapter, each with its own learning rate.
"""

import re
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset

from scripts.common.errors import UserError
from scripts.common.vision import PROJECTOR, VISION_TOWER, load_image, load_processor, pixel_inputs
from scripts.train.arguments import lora_config
from scripts.train.padding import pad_batch
from scripts.train.text_training import TextTraining
from scripts.train.trainer import Trainer
from scripts.train.training_run import TrainingRun

LANGUAGE_MODEL = "model.language_model"
PICTURES = "pictures"


def collate_with_images(rows: list[dict], processor, folder: Path) -> dict[str, torch.Tensor]:
    """Return rows as input_ids, labels, attention_mask and pixel_values; opens and scales the images.

    `folder` has the rows' images. A batch without images has no pixel_values.
    """
    images = [load_image(folder, name) for row in rows for name in row[PICTURES]]
    return {**pad_batch(rows, processor.tokenizer.pad_token_id), **pixel_inputs(processor, images)}


class VisionTrainer(Trainer):
    """The trainer of vision runs; `part_rates` maps parts of the model to their peak learning rates."""

    def __init__(self, *arguments, part_rates: dict[str, float], **options):
        self.part_rates = part_rates
        options["args"].remove_unused_columns = False
        super().__init__(*arguments, **options)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Create the optimizer; each part with its own rate becomes a parameter group, with the same schedule."""
        exists = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if exists:
            return optimizer
        part_of = {}
        for name, parameter in (model or self.model).named_parameters():
            for part in self.part_rates:
                if f".{part}." in f".{name}":
                    part_of[parameter] = part
        groups = []
        for part in (None, *self.part_rates):  # None: parameters without a rate of their own
            for group in optimizer.param_groups:
                parameters = [parameter for parameter in group["params"] if part_of.get(parameter) == part]
                if parameters or part is None:
                    groups.append({**group, "lr": self.part_rates.get(part, group["lr"]), "params": parameters})
        optimizer.param_groups[:] = groups
        return optimizer


class VisionTraining(TextTraining):
    """A vision run's processor, images and settings, and the training setup that follows from them."""

    trainer, reads_images = VisionTrainer, True

    def __init__(self, run: TrainingRun):
        self.vision = run.settings["vision"]
        super().__init__(run)
        self.options = {"part_rates": self.part_rates()}
        # Inference has to scale images in the same way.
        self.manifest = {"task": self.settings["task"], "longest_edge": self.vision["longest_edge"]}

    def load_tokenizer(self) -> None:
        """Set the processor, its tokenizer and the collator."""
        if self.run.images is None:
            raise UserError("a vision run needs the folder of its images", remedy="add --images")
        self.processor = load_processor(self.run.base, self.vision["longest_edge"])
        self.tokenizer = self.processor.tokenizer
        self.collator = partial(collate_with_images, processor=self.processor, folder=self.run.images)

    def rows(self, split: str) -> Dataset:
        """Return a split's rows with a column `pictures`, the names of their images."""
        return super().rows(split).rename_column("images", PICTURES)

    def prepare(self, model) -> None:
        """Freeze the untrained parts, so that no gradients are computed and no activations stored for them.

        With gradient checkpointing, transformers requires gradients at the tower's input; without `no_grad` each step
        would propagate back through the frozen tower.
        """
        tower, projector = model.get_submodule(VISION_TOWER), model.get_submodule(PROJECTOR)
        projector.requires_grad_(self.vision["train_projector"])
        tower.requires_grad_(self.vision["train_vision_tower"])
        if not self.vision["train_vision_tower"]:
            tower.forward = torch.no_grad()(tower.forward)

    def lora_config(self, model):
        """Return PEFT's configuration: LoRA in the language model and optionally the tower; the projector in full."""
        lora = self.settings["lora"]
        parts = [LANGUAGE_MODEL, *([VISION_TOWER] if self.vision["train_vision_tower"] else [])]
        config = lora_config({**lora, "target_modules": target_pattern(model, lora["target_modules"], parts)})
        config.modules_to_save = [PROJECTOR.rpartition(".")[2]] if self.vision["train_projector"] else None
        return config

    def part_rates(self) -> dict[str, float]:
        """Return the peak learning rates of the trained parts with their own rate, by part."""
        trained = {
            PROJECTOR: self.vision["train_projector"] and self.vision["projector_learning_rate"],
            VISION_TOWER: self.vision["train_vision_tower"] and self.vision["vision_learning_rate"],
        }
        return {part: rate for part, rate in trained.items() if rate}

    def facts(self, rows: Dataset) -> dict:
        """Return the number of images per epoch, and the trained parts of the model."""
        ids = set(self.processor.image_token_ids)
        wanted = {PROJECTOR: "train_projector", VISION_TOWER: "train_vision_tower"}
        return super().facts(rows) | {
            "images": sum(len(names) for names in rows[PICTURES]),
            "image_tokens": sum(sum(token in ids for token in row) for row in rows["input_ids"]),
            "longest_edge": self.processor.image_processor.size["longest_edge"],
            "trained_parts": [LANGUAGE_MODEL, *(part for part, key in wanted.items() if self.vision[key])],
        }


def target_pattern(model, wanted: str | list[str], parts: list[str]) -> str:
    """Return a regular expression for the linear modules of parts of a model that get an adapter.

    `wanted` is `all-linear` or a list of suffixes of module names. Raises UserError for a suffix that no linear module
    of the first part has: vision tower and language model share module names.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    inside = [name for name in linear if name.startswith(tuple(f"{part}." for part in parts))]
    if wanted == "all-linear":
        ends = sorted({name.rpartition(".")[2] for name in inside})
    else:
        ends = sorted(wanted)
        for end in ends:
            if not any(f".{name}".endswith(f".{end}") for name in inside if name.startswith(f"{parts[0]}.")):
                raise UserError(f"lora.target_modules: no module of the language model is called '{end}'")
    return rf"(?:{'|'.join(map(re.escape, parts))})\.(?:.*\.)?(?:{'|'.join(map(re.escape, ends))})"
