"""What a training of a token classifier depends on and leaves, whether LoRA is trained with the head or not."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from scripts.common.base_model import device_precision, four_bit
from scripts.common.files import atomic_folder, check_manifest, read_json, sha256_of, write_manifest
from scripts.common.imports import files_of_script
from scripts.train.arguments import batch_shape
from scripts.train.checkpoints import fingerprint
from scripts.train.running import FREE_TO_CHANGE, SHAPING_PACKAGES

SPLITS = ("train", "validation")


@dataclass
class HeadRun:
    """One try at a run: where things are, its settings, and what follows from them."""

    tokens: Path
    base: Path
    checkpoints: Path
    output: Path
    settings: dict
    threads: int
    attempt: int = 1  # each further one halves the micro-batch
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def labels(self) -> list[str]:
        """The BIO labels in the order of their numbers."""
        return read_json(self.tokens / "labels.json")

    @cached_property
    def precision(self) -> str:
        """The backbone's number format on this device."""
        return device_precision(self.settings["training"]["precision"])

    @property
    def quantization(self):
        """The configuration of a 4-bit backbone, where the settings ask for one."""
        return four_bit(self.settings["qlora"], self.precision) if self.settings["head"]["load_in_4bit"] else None

    @property
    def shape(self) -> tuple[int, int]:
        """Micro-batch and accumulation of this attempt."""
        training = self.settings["training"]
        return batch_shape(training["micro_batch"], training["accumulation"], self.attempt)

    @property
    def bar(self) -> str:
        """What the bar of the training says."""
        return f"train {self.checkpoints.parent.name}"

    @cached_property
    def backbone_facts(self) -> dict:
        """Everything that decides the backbone's hidden states of the rows; our code is part of it."""
        import torch

        return {
            "rows": {split: sha256_of(self.tokens / f"{split}.arrow") for split in SPLITS},
            "base": check_manifest(self.base)["files"],
            "precision": self.precision,
            "four_bit": self.settings["qlora"] if self.settings["head"]["load_in_4bit"] else None,
            "attention": self.settings["training"]["attention"],
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": self.threads,
            "versions": {package: version(package) for package in SHAPING_PACKAGES},
            "code": [sha256_of(path) for path in files_of_script(Path(__file__).with_name("train_head.py"))],
        }

    def fingerprint(self, **further) -> str:
        """Return the fingerprint of everything that decides how the run goes, step by step."""
        training = self.settings["training"]
        return fingerprint(
            **self.backbone_facts,
            **further,
            labels=self.labels,
            settings={**self.settings, "training": {k: v for k, v in training.items() if k not in FREE_TO_CHANGE}},
            effective_batch=training["micro_batch"] * training["accumulation"],
        )

    def finished_fingerprint(self) -> str:
        """Return the fingerprint of everything that the outputs of the step depend on."""
        return fingerprint(**self.backbone_facts, labels=self.labels, settings=self.settings)

    def facts(self, folder: Path, **results) -> dict:
        """Return what happened, for training.json; `results` are steps, best step and the like."""
        micro_batch, accumulation = self.shape
        return {
            "method": self.settings["method"],
            **results,
            "packing": "off",
            "precision": self.precision,
            "device": self.backbone_facts["device"],
            "threads": self.threads,
            "micro_batch": micro_batch,
            "accumulation": accumulation,
            "attempt": self.attempt,
            "fingerprint": folder.name,
            "versions": self.backbone_facts["versions"],
            "seconds": round(time.monotonic() - self.started, 1),
        }

    def save(self, head, adapter: Callable[[Path], None] | None = None) -> None:
        """Write the head's folder, whole or absent, its manifest last; `adapter` writes more files into it."""
        from scripts.common.classifier_head import save_head

        facts, settings = check_manifest(self.base), self.settings
        config = {
            "labels": self.labels,
            "hidden_size": head.in_features,
            "dropout": settings["head"]["dropout"],
            "method": settings["method"],
            "precision": self.precision,
            "load_in_4bit": self.backbone_facts["four_bit"] if adapter is None else None,
            "base_model_name_or_path": facts.get("id") or facts["name"],
            "revision": facts.get("revision"),
        }
        with atomic_folder(self.output) as folder:
            save_head(folder, head, config)
            if adapter:
                adapter(folder)
            trust = facts.get("trust_remote_code", False)
            write_manifest(folder, base=facts["name"], method=settings["method"], trust_remote_code=trust)
