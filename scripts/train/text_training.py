"""Training of text runs; a task that trains otherwise has a subclass of `TextTraining`."""

from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from transformers import set_seed

from scripts.common.base_model import four_bit, keep_layout, load_base, load_tokenizer
from scripts.common.cli import log
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.common.number_format import torch_dtype
from scripts.common.vision import lower_longest_edge
from scripts.model.tokenizer_files import copy_tokenizer_files
from scripts.train.arguments import lora_config, missing_target_modules, trainer_options
from scripts.train.batches import collate, keeps_examples_apart, load_rows, longest_row, pack_rows
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.energy import EnergyMeter
from scripts.train.memory import loading
from scripts.train.sharding import adapter_weights, whole_model
from scripts.train.stop import StopOnTerm
from scripts.train.trainer import Trainer
from scripts.train.training_run import SPLITS, TrainingRun, check_packages, tidy_adapter_config
from scripts.train.unpadded import collate_unpadded, keeps_by_example


class TextTraining:
    """The training of a run: its tokenizer, collator and trainer, and how its rows and model are prepared.

    `options` are further arguments of the trainer, `manifest` further facts for the manifest of the trained model.
    """

    trainer, reads_images = Trainer, False

    def __init__(self, run: TrainingRun):
        self.stop, self.meter, self.processes = StopOnTerm(), EnergyMeter(), PartialState()
        self.run, self.settings, self.packing, self.unpadded = run, run.settings, "off", False
        self.options, self.manifest = {}, {}
        self.load_tokenizer()

    def load_tokenizer(self) -> None:
        """Set the tokenizer and the collator."""
        self.tokenizer = load_tokenizer(self.run.base)
        self.collator = partial(collate, pad_id=self.tokenizer.pad_token_id)

    def train(self) -> tuple[list[dict], dict]:
        """Train and write the adapter's (or, for the method `full`, the model's) folder; return curve and facts.

        If it diverges before a usable checkpoint, the model is loaded again, untrained. Raises UserError on SIGTERM,
        and for settings that this machine does not support.
        """
        run = self.run
        check_packages(self.settings["training"])
        folder = run.folder(run.precision)
        with self.processes.main_process_first():
            resumed = latest_checkpoint(folder)
        trainer, rows = self.new_trainer(folder)
        trainer.train_from(resumed)
        if trainer.diverged and not trainer.diverged["kept_step"]:
            state, diverged = trainer.state, trainer.diverged
            del trainer
            clear_device_cache(garbage_collection=True)  # there is no memory for two models
            trainer, rows = self.new_trainer(folder)
            trainer.state, trainer.diverged = state, diverged
        self.save(trainer.model)
        return run.result(trainer, self.meter, rows=len(rows), **self.facts(rows))

    def new_trainer(self, folder: Path) -> tuple:
        """Load the model and the rows; return their trainer and the training rows.

        `folder` is that of the checkpoints.
        """
        run, settings = self.run, self.settings
        set_seed(settings["seed"])
        with loading():
            model = keep_layout(self.load())
        model.config.use_cache = False
        splits = {split: self.rows(split) for split in SPLITS}
        self.unpadded = self.may_leave_padding_out(model, splits)
        splits["train"] = self.pack(splits["train"], model, folder)
        self.prepare(model)
        # A packed row is a part, however long. In parts, smaller micro-batches would not help after a lack of memory.
        in_parts = self.unpadded and self.packing != "on" and run.attempt == 1
        adapter = {"peft_config": self.lora_config(model)} if settings["method"] != "full" else {}
        with missing_target_modules():
            trainer = self.trainer(
                model=model,
                processing_class=self.tokenizer,
                data_collator=collate_unpadded if self.unpadded else self.collator,
                group_rows=settings["training"]["group_by_length"] and self.packing != "on",
                stop=self.stop,
                **trainer_options(settings, folder, run.precision, run.shape, splits, run.name, in_parts),
                **self.options,
                **adapter,
            )
        return trainer, splits["train"]

    def may_leave_padding_out(self, model, splits: dict[str, Dataset]) -> bool:
        """Return whether micro-batches have no padding (scripts/train/unpadded.py): on a CPU, in one process."""
        alone = self.processes.num_processes == 1 and not torch.cuda.is_available()
        balanced = hasattr(model.config.get_text_config(), "output_router_logits")  # a mean over a micro-batch's tokens
        plain = self.trainer is Trainer and not balanced and self.settings["training"]["attention"] in ("auto", "sdpa")
        if not (alone and plain):
            return False
        longest = max(map(longest_row, splits.values()))
        return keeps_by_example(model, self.tokenizer.pad_token_id, model.config.vocab_size, longest)

    def load(self):
        """Load the base; every process must call this."""
        settings, precision, quantization = self.settings, self.run.precision, None
        if settings["method"] == "qlora":
            quantization = four_bit(settings["qlora"], precision, self.reads_images)
        dtype = torch_dtype("fp32" if settings["method"] == "full" else precision)
        shards = self.processes.num_processes if settings["training"]["sharding"] == "fsdp" else 1
        attention = settings["training"]["attention"]
        return load_base(self.run.base, dtype, quantization, attention, self.reads_images, shards=shards)

    def rows(self, split: str) -> Dataset:
        """Return a split's rows as the collator takes them."""
        return load_rows(self.run.tokens, split)

    def pack(self, rows: Dataset, model, folder: Path) -> Dataset:
        """Return the training rows, packed if configured and possible; `packing` then says whether they are packed."""
        settings = self.settings["tokens"]
        if not settings["packing"]:
            return rows
        if not self.unpadded and not keeps_examples_apart(model, self.tokenizer.pad_token_id, model.config.vocab_size):
            log.warning("packing is not used: with this attention, packed examples attend to each other")
            self.packing = "not used: with this attention, packed examples attend to each other"
            return rows
        self.packing, file = "on", folder / "packed" / "train.arrow"
        with self.processes.main_process_first():  # an earlier attempt's packed rows are written again: no checksum
            return pack_rows(rows, settings["max_length"], file, made=not self.processes.is_main_process)

    def prepare(self, model) -> None:
        """Prepare a loaded model for training, for example by freezing the untrained parts."""

    def lora_config(self, model):
        """Return PEFT's configuration of the adapter."""
        return lora_config(self.settings["lora"])

    def facts(self, rows: Dataset) -> dict:
        """Return further facts on the training."""
        sharding = self.settings["training"]["sharding"]
        return {
            "packing": self.packing,
            "processes": self.processes.num_processes,
            "sharding": sharding,
            "padded": not self.unpadded,
        }

    def save(self, model) -> None:
        """Write the folder of the trained weights atomically, its manifest last; every process must call this."""
        model, method = whole_model(model), self.settings["method"]
        if not self.processes.is_main_process:
            return
        base, facts = self.run.base, check_manifest(self.run.base)
        trust = facts.get("trust_remote_code", False)
        with atomic_folder(self.run.output) as folder:
            if method == "full":
                save_full_model(model, base.parent, folder, trust)
                lower_longest_edge(folder, self.manifest.get("longest_edge"))
            else:
                model.save_pretrained(folder, state_dict=adapter_weights(model))
                (folder / "README.md").unlink(missing_ok=True)
                tidy_adapter_config(folder / "adapter_config.json", base, facts)
            write_manifest(folder, base=facts["name"], method=method, trust_remote_code=trust, **self.manifest)


def save_full_model(model, base: Path, folder: Path, trust: bool) -> None:
    """Write a fully trained model in the base's number format, with the base's tokenizer and code, if any."""
    config = read_json(base / "config.json")
    model.config.use_cache = config.get("use_cache", True)
    model.to(getattr(torch, config.get("dtype") or config.get("torch_dtype") or "bfloat16")).save_pretrained(folder)
    copy_tokenizer_files(base, folder, trust)
