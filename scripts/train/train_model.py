"""Fine-tune a base model on tokenized rows: LoRA, QLoRA, or all weights; resumes from the last checkpoint.

python scripts/train/train_model.py results/runs/football/tokens --base results/models/embedded/manifest.json \
    --checkpoints results/runs/football/checkpoints --output results/runs/football/adapter \
    --curve results/runs/football/curve.jsonl --facts results/runs/football/training.json --settings '{...}'

`--settings` holds method, seed, lora, qlora, tokens and training of the run. After running out of memory the
micro-batch is halved and the accumulation doubled, so that training continues with the same batches. If the settings
ask for several processes, this script starts them (scripts/train/launch.py); they share the rows of each step.
"""

import argparse
import sys
from pathlib import Path

from scripts.common.base_model import four_bit, keep_layout, load_base, load_tokenizer
from scripts.common.cli import log, step_main
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.common.number_format import torch_dtype
from scripts.common.vision import is_vision, lower_longest_edge
from scripts.model.tokenizer_files import copy_tokenizer_files
from scripts.train.arguments import lora_config, missing_target_modules, training_arguments
from scripts.train.checkpoints import checkpoint_to_take_up
from scripts.train.energy import EnergyMeter
from scripts.train.launch import train_in_processes
from scripts.train.memory import loading
from scripts.train.processes import work
from scripts.train.stop import StopOnTerm
from scripts.train.training_run import TrainingRun, curve_rows, tidy_adapter_config
from scripts.train.training_step import train_once, training_of, training_parser

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py


def train_model(run: TrainingRun) -> tuple[list[dict], dict]:
    """Train and write the adapter's (or, for the method `full`, the model's) folder; return curve and facts.

    Raises UserError if a loss is not a number, on SIGTERM, and for settings that this machine does not support.
    """
    from accelerate import PartialState
    from transformers import set_seed

    from scripts.train.batches import Collator, load_rows
    from scripts.train.callbacks import run_callbacks
    from scripts.train.sharding import whole_model
    from scripts.train.trainer import Trainer
    from scripts.train.vision_training import PICTURES, VisionTrainer, VisionTraining

    stop, meter, processes = StopOnTerm(), EnergyMeter(), PartialState()
    settings, training, method = run.settings, run.settings["training"], run.settings["method"]
    task, precision, folder = settings.get("task", "chat"), run.precision, run.folder(run.precision)
    with processes.main_process_first():
        resumed = checkpoint_to_take_up(folder)
    vision = VisionTraining(run.base, run.images, settings) if is_vision(settings) else None
    tokenizer = vision.processor.tokenizer if vision else load_tokenizer(run.base)
    set_seed(settings["seed"])
    quantization = four_bit(settings["qlora"], precision, task) if method == "qlora" else None
    dtype = torch_dtype("fp32" if method == "full" else precision)
    shards = processes.num_processes if training["sharding"] == "fsdp" else 1
    with loading():
        model = keep_layout(load_base(run.base, dtype, quantization, training["attention"], task, shards=shards))
    model.config.use_cache = False
    validation = load_rows(run.tokens, "validation")
    rows, packing = training_rows(run.tokens, model, tokenizer, settings["tokens"], folder)
    evaluates = len(validation) > 0
    arguments = training_arguments(settings, folder, precision, run.shape, evaluates, len(rows))
    kind, options = Trainer, {"data_collator": Collator(tokenizer.pad_token_id)}
    if vision:
        vision.freeze(model)
        rows, validation = (part.rename_column("images", PICTURES) for part in (rows, validation))
        arguments.remove_unused_columns = False
        kind, options = VisionTrainer, {"data_collator": vision.collator, "part_rates": vision.part_rates()}
    if method != "full":
        options["peft_config"] = vision.lora_config(model) if vision else lora_config(settings["lora"])
    with missing_target_modules():
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=validation if evaluates else None,
            processing_class=tokenizer,
            callbacks=run_callbacks(training, run.name, resumed, evaluates),
            row_seed=settings["seed"],
            group_rows=training["group_by_length"] and packing != "on",
            stop=stop,
            keep_checkpoints=training["keep_checkpoints"],
            **options,
        )
    trainer.train_or_finish(resumed, training["early_stopping_patience"])
    whole = whole_model(trainer.model)
    if processes.is_main_process:
        save_result(whole, run.base, run.output, method, vision.vision["longest_edge"] if vision else None, task)
    facts = run.facts(
        folder,
        meter,
        trainer,
        rows=len(rows),
        packing=packing,
        processes=processes.num_processes,
        sharding=training["sharding"],
        **(vision.facts(rows) if vision else {}),
    )
    return curve_rows(trainer.state.log_history), facts


def training_rows(tokens: Path, model, tokenizer, settings: dict, folder: Path):
    """Return the training rows, packed if configured and possible, and whether they are packed."""
    from accelerate import PartialState

    from scripts.train.batches import keeps_examples_apart, load_rows, pack_rows

    rows = load_rows(tokens, "train")
    if not settings["packing"]:
        return rows, "off"
    if not keeps_examples_apart(model, tokenizer.pad_token_id, model.config.vocab_size):
        log.warning("packing is not used: with this attention, packed examples attend to each other")
        return rows, "not used: with this attention, packed examples attend to each other"
    processes, file = PartialState(), folder / "packed" / "train.arrow"
    with processes.main_process_first():  # an earlier attempt's packed rows are written again: they have no checksum
        return pack_rows(rows, settings["max_length"], file, made=not processes.is_main_process), "on"


def save_result(
    model, base: Path, output: Path, method: str, longest_edge: int | None = None, task: str = "chat"
) -> None:
    """Write the folder of the trained weights atomically, its manifest last.

    `longest_edge` is a vision run's limit in pixels; inference has to scale images in the same way.
    """
    from scripts.train.sharding import adapter_weights

    facts = check_manifest(base)
    trust = facts.get("trust_remote_code", False)
    with atomic_folder(output) as folder:
        if method == "full":
            save_full_model(model, base.parent, folder, trust)
            lower_longest_edge(folder, longest_edge)
        else:
            model.save_pretrained(folder, state_dict=adapter_weights(model))
            (folder / "README.md").unlink(missing_ok=True)
            tidy_adapter_config(folder / "adapter_config.json", base, facts)
        seen = {"task": task, "longest_edge": longest_edge} if task == "vision" else {}
        write_manifest(folder, base=facts["name"], method=method, trust_remote_code=trust, **seen)


def save_full_model(model, base: Path, folder: Path, trust: bool) -> None:
    """Write a fully trained model in the base's number format, with the base's tokenizer and code, if any."""
    import torch

    config = read_json(base / "config.json")
    model.config.use_cache = config.get("use_cache", True)
    model.to(getattr(torch, config.get("dtype") or config.get("torch_dtype") or "bfloat16")).save_pretrained(folder)
    copy_tokenizer_files(base, folder, trust)


def step(arguments) -> None:
    """Run the step; with `--exchange` this is one of several processes, and the launcher writes the outputs."""

    def train_here(attempt: int) -> tuple[list[dict], dict]:
        return train_model(TrainingRun.of(arguments, RESULT_VERSION, attempt))

    if arguments.exchange:
        work(arguments, train_here)
        return
    with training_of(arguments):
        run = TrainingRun.of(arguments, RESULT_VERSION)
        train = train_here if run.num_processes == 1 else lambda attempt: train_in_processes(arguments, attempt)
        remedy = "lower tokens.max_length or lora.r, or set training.gradient_checkpointing"
        train_once(arguments, run.finished_fingerprint(), train, remedy)


def parser():
    """Return the step's command line."""
    result = training_parser(__doc__.splitlines()[0])
    result.add_argument("--images", type=Path, help="folder of the images of a vision run's rows")
    result.add_argument("--attempt", type=int, default=1, help=argparse.SUPPRESS)
    result.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
