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

from scripts.common.base_model import four_bit, keep_layout, load_base
from scripts.common.cli import log, step_main
from scripts.common.files import atomic_folder, check_manifest, read_json, write_manifest
from scripts.common.number_format import torch_dtype
from scripts.common.vision import lower_longest_edge
from scripts.model.tokenizer_files import copy_tokenizer_files
from scripts.tasks import task_of
from scripts.train.arguments import missing_target_modules, training_arguments
from scripts.train.checkpoints import checkpoint_to_take_up
from scripts.train.energy import EnergyMeter
from scripts.train.launch import train_in_processes
from scripts.train.memory import loading
from scripts.train.processes import work
from scripts.train.stop import StopOnTerm
from scripts.train.training_run import TrainingRun, check_packages, curve_rows, tidy_adapter_config
from scripts.train.training_step import train_once, training_of, training_parser

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py


def train_model(run: TrainingRun) -> tuple[list[dict], dict]:
    """Train and write the adapter's (or, for the method `full`, the model's) folder; return curve and facts.

    Raises UserError if a loss is not a number, on SIGTERM, and for settings that this machine does not support.
    """
    from accelerate import PartialState
    from transformers import set_seed

    from scripts.train.batches import load_rows
    from scripts.train.callbacks import run_callbacks
    from scripts.train.sharding import whole_model
    from scripts.train.text_training import TextTraining
    from scripts.train.vision_training import VisionTraining

    stop, meter, processes = StopOnTerm(), EnergyMeter(), PartialState()
    settings, training, method = run.settings, run.settings["training"], run.settings["method"]
    check_packages(training)
    sees, precision, folder = task_of(settings).reads_images, run.precision, run.folder(run.precision)
    with processes.main_process_first():
        resumed = checkpoint_to_take_up(folder)
    own = (VisionTraining if sees else TextTraining)(run.base, run.images, settings)
    set_seed(settings["seed"])
    quantization = four_bit(settings["qlora"], precision, sees) if method == "qlora" else None
    dtype = torch_dtype("fp32" if method == "full" else precision)
    shards = processes.num_processes if training["sharding"] == "fsdp" else 1
    with loading():
        model = keep_layout(load_base(run.base, dtype, quantization, training["attention"], sees, shards=shards))
    model.config.use_cache = False
    validation = load_rows(run.tokens, "validation")
    rows, packing = training_rows(run.tokens, model, own.tokenizer, settings["tokens"], folder)
    evaluates = len(validation) > 0
    arguments = training_arguments(settings, folder, precision, run.shape, evaluates, len(rows))
    own.freeze(model)
    rows, validation = own.rows(rows), own.rows(validation)
    adapter = {"peft_config": own.lora_config(model)} if method != "full" else {}
    with missing_target_modules():
        trainer = own.trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=validation if evaluates else None,
            data_collator=own.collator,
            processing_class=own.tokenizer,
            callbacks=run_callbacks(training, run.name, resumed, evaluates),
            row_seed=settings["seed"],
            group_rows=training["group_by_length"] and packing != "on",
            stop=stop,
            keep_checkpoints=training["keep_checkpoints"],
            **own.options,
            **adapter,
        )
    trainer.train_or_finish(resumed, training["early_stopping_patience"])
    whole = whole_model(trainer.model)
    if processes.is_main_process:
        save_result(whole, run.base, run.output, method, own.manifest)
    facts = run.facts(
        folder,
        meter,
        trainer,
        rows=len(rows),
        packing=packing,
        processes=processes.num_processes,
        sharding=training["sharding"],
        **own.facts(rows),
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


def save_result(model, base: Path, output: Path, method: str, own: dict) -> None:
    """Write the folder of the trained weights atomically, its manifest last; `own` has the task's facts for it."""
    from scripts.train.sharding import adapter_weights

    facts = check_manifest(base)
    trust = facts.get("trust_remote_code", False)
    with atomic_folder(output) as folder:
        if method == "full":
            save_full_model(model, base.parent, folder, trust)
            lower_longest_edge(folder, own.get("longest_edge"))
        else:
            model.save_pretrained(folder, state_dict=adapter_weights(model))
            (folder / "README.md").unlink(missing_ok=True)
            tidy_adapter_config(folder / "adapter_config.json", base, facts)
        write_manifest(folder, base=facts["name"], method=method, trust_remote_code=trust, **own)


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
