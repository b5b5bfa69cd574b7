"""One attempt at training a token classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scripts.common.base_model import four_bit
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.train.checkpoints import checkpoints_in, fingerprint
from scripts.train.training_run import TrainingRun

SIXTHS = (2, 3, 4, 5, 6)  # of the depth, at which `head.layer: auto` tries the hidden states


@dataclass
class HeadRun(TrainingRun):
    """One attempt at training a head, alone or with LoRA on the backbone."""

    @cached_property
    def labels(self) -> list[str]:
        """The BIO labels in order of their numbers."""
        return read_json(self.tokens / "labels.json")

    @cached_property
    def base_layers(self) -> int:
        """The number of layers of the base; 0 if its config.json does not say."""
        return read_json(self.base.parent / "config.json").get("num_hidden_layers", 0)

    @cached_property
    def depths(self) -> list[int]:
        """The layers, from 1, to train a head on: the configured one, or those that `auto` tries.

        Raises UserError for a layer that the base does not have.
        """
        layer, layers = self.settings["head"]["layer"], self.base_layers
        if layer == "auto":
            return sorted({-(-layers * sixths // 6) for sixths in SIXTHS})
        if layer != "last" and layer > layers:
            raise UserError(f"head.layer is {layer}, but the base has {layers} layers", self.base.parent)
        return [layers if layer == "last" else layer]

    @cached_property
    def inputs(self) -> dict:
        """The inputs that determine the result, in addition to settings and number format."""
        return {**super().inputs, "labels": self.labels}

    def has_begun(self, precision: str) -> bool:
        """Return whether an earlier attempt left hidden states or checkpoints in a number format."""
        if self.settings["method"] != "head":
            return super().has_begun(precision)
        folders = [self.folder(precision, cached=c, layer=layer) for c in (True, False) for layer in self.depths]
        return self.states_folder(precision).is_dir() or any(checkpoints_in(folder) for folder in folders)

    def states_folder(self, precision: str) -> Path:
        """Return the folder of the hidden states in a number format, named by a fingerprint of what determines them."""
        facts = {
            **self.inputs,
            "device": self.device,
            "depths": self.depths,
            "attention": self.settings["training"]["attention"],
        }
        name = fingerprint(**facts, four_bit=self.four_bit, precision=precision)
        return self.checkpoints / f"hidden_states-{name}"

    @property
    def four_bit(self) -> dict | None:
        """The settings of a 4-bit backbone; None without one."""
        return self.settings["qlora"] if self.settings["head"]["load_in_4bit"] else None

    @property
    def quantization(self):
        return four_bit(self.four_bit, self.precision) if self.four_bit else None

    def weight_of_labels(self, weights: list[float]) -> dict[str, float]:
        """Return the loss weight of each label, for the facts."""
        return dict(zip(self.labels, (round(weight, 6) for weight in weights), strict=True))

    def save(self, head, adapter: Callable[[Path], None] | None = None, layer: int | None = None) -> None:
        """Write the head's folder atomically, its manifest last; `adapter` writes further files into it.

        `layer` is the layer whose hidden states the head reads (None: the last).
        """
        from scripts.train.classifier_head import save_head

        facts, settings = check_manifest(self.base), self.settings
        config = {
            "labels": self.labels,
            "hidden_size": head.in_features,
            "layer": layer or self.base_layers,
            "base_layers": self.base_layers,
            "dropout": settings["head"]["dropout"],
            "method": settings["method"],
            "precision": self.precision,
            "load_in_4bit": self.four_bit if adapter is None else None,
            "base_model_name_or_path": facts.get("id") or facts["name"],
            "revision": facts.get("revision"),
        }
        with atomic_folder(self.output) as folder:
            save_head(folder, head, config)
            if adapter:
                adapter(folder)
            trust = facts.get("trust_remote_code", False)
            write_manifest(folder, base=facts["name"], method=settings["method"], trust_remote_code=trust)
