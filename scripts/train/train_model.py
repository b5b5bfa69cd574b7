"""Fine-tune a base model on tokenized rows: LoRA, QLoRA, or all weights; resumed where an earlier try broke off.

python scripts/train/train_model.py results/runs/football/tokens --base results/models/embedded/manifest.json \
    --checkpoints results/runs/football/checkpoints --output results/runs/football/adapter \
    --curve results/runs/football/curve.jsonl --facts results/runs/football/training.json --settings '{...}'

`--settings` holds method, seed, lora, qlora, tokens and training of the run. After running out of memory the
micro-batch is halved and twice as much accumulated, so that the training goes on with the same batches. Where the
settings ask for several processes, this starts them (scripts/train/launch.py); they share the rows of each step.
"""

import argparse
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

from scripts.common.base_model import device_precision, four_bit, load_base, load_tokenizer, torch_dtype
from scripts.common.cli import log, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import (
    MANIFEST,
    atomic_folder,
    check_manifest,
    read_json,
    sha256_of,
    write_json,
    write_jsonl,
    write_manifest,
)
from scripts.common.imports import files_of_script
from scripts.common.threads import use_threads
from scripts.common.tokenizer_files import copy_code, copy_tokenizer_files
from scripts.common.vision import is_vision, lower_longest_edge
from scripts.train.arguments import batch_shape, lora_config, training_arguments
from scripts.train.checkpoints import checkpoint_to_take_up, fingerprint
from scripts.train.energy import EnergyMeter
from scripts.train.finished import FINISHED, only_training_in, same_finished_run
from scripts.train.launch import train_in_processes
from scripts.train.memory import loading
from scripts.train.running import (
    FREE_TO_CHANGE,
    SHAPING_PACKAGES,
    best_step,
    check_packages,
    curve_rows,
    load_rows,
    run_callbacks,
    tidy_adapter_config,
)
from scripts.train.stop import StopOnTerm
from scripts.train.surroundings import surroundings
from scripts.train.tries import Tries, train_in_tries
from scripts.train.worker import work
from scripts.train.world import first_process_first, is_first, process_count


def run_fingerprint(tokens: Path, base: Path, settings: dict, precision: str, device: str, threads: int) -> str:
    """Return the fingerprint of everything that decides how the run goes, step by step; our code is part of it."""
    training = settings["training"]
    return fingerprint(
        settings={**settings, "training": {k: v for k, v in training.items() if k not in FREE_TO_CHANGE}},
        effective_batch=training["micro_batch"] * training["accumulation"],
        rows={split: sha256_of(tokens / f"{split}.arrow") for split in ("train", "validation")},
        base=check_manifest(base)["files"],
        precision=precision,
        device=device,
        threads=threads,
        versions={package: version(package) for package in SHAPING_PACKAGES},
        code=[sha256_of(path) for path in files_of_script(Path(__file__))],
    )


def train_model(
    tokens: Path,
    base: Path,
    checkpoints: Path,
    output: Path,
    settings: dict,
    threads: int,
    attempt: int,
    images: Path | None = None,
):
    """Train and write the adapter's (or, for the method `full`, the model's) folder; return curve and facts.

    `images` is the folder in which the rows of a vision run find their images. Raises UserError when a loss is no
    number, on SIGTERM, and for settings that this machine can't do.
    """
    import torch
    from transformers import set_seed

    from scripts.train.batches import Collator
    from scripts.train.four_bit_layout import keep_layout
    from scripts.train.sharding import whole_model
    from scripts.train.trainer import Trainer
    from scripts.train.vision_trainer import VisionTrainer
    from scripts.train.vision_training import VisionTraining

    started, stop, meter = time.monotonic(), StopOnTerm(), EnergyMeter()
    training, method, task = settings["training"], settings["method"], settings.get("task", "chat")
    check_packages(training)
    precision = device_precision(training["precision"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    folder = checkpoints / run_fingerprint(tokens, base, settings, precision, device, threads)
    with first_process_first():
        resumed = checkpoint_to_take_up(folder)
    vision = VisionTraining(base, images, settings) if is_vision(settings) else None
    tokenizer = vision.processor.tokenizer if vision else load_tokenizer(base)
    set_seed(settings["seed"])
    quantization = four_bit(settings["qlora"], precision, task) if method == "qlora" else None
    dtype = torch_dtype("fp32" if method == "full" else precision)
    shares = process_count() if training["sharding"] == "fsdp" else 1
    with loading():
        model = keep_layout(load_base(base, dtype, quantization, training["attention"], task, shares=shares))
    model.config.use_cache = False
    validation = load_rows(tokens, "validation")
    rows, packing = training_rows(tokens, model, tokenizer, settings["tokens"], folder)
    arguments = training_arguments(
        settings, folder, precision, attempt, len(validation) > 0, len(rows), process_count()
    )
    kind, options = Trainer, {"data_collator": Collator(tokenizer.pad_token_id)}
    if vision:
        vision.freeze(model)
        rows, validation = (
            vision.rows(part, tokens / f"{split}.arrow")
            for split, part in (("train", rows), ("validation", validation))
        )
        arguments.remove_unused_columns = False
        kind, options = VisionTrainer, {"data_collator": vision.collator, "part_rates": vision.part_rates()}
    try:
        if method != "full":
            options["peft_config"] = vision.lora_config(model) if vision else lora_config(settings["lora"])
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=validation if len(validation) else None,
            processing_class=tokenizer,
            callbacks=run_callbacks(training, checkpoints.parent.name, resumed, len(validation) > 0),
            row_seed=settings["seed"],
            group_rows=training["group_by_length"] and packing != "on",
            stop=stop,
            keep_checkpoints=training["keep_checkpoints"],
            **options,
        )
    except ValueError as error:
        if "target modules" in str(error).lower():
            raise UserError(f"lora.target_modules: {str(error).splitlines()[0]}") from None
        raise
    trainer.train_or_finish(resumed, training["early_stopping_patience"])
    whole = whole_model(trainer.model)
    if is_first():
        save_result(whole, base, output, method, vision.vision["longest_edge"] if vision else None, task)
    micro_batch, accumulation = batch_shape(training["micro_batch"], training["accumulation"], attempt, process_count())
    seconds = round(time.monotonic() - started, 1)
    facts = {
        "method": method,
        "steps": trainer.state.global_step,
        "best_step": best_step(trainer.state),
        "best_eval_loss": trainer.state.best_metric,
        "rows": len(rows),
        "packing": packing,
        "precision": precision,
        "device": device,
        "threads": threads,
        "micro_batch": micro_batch,
        "accumulation": accumulation,
        "processes": process_count(),
        "sharding": training["sharding"],
        "attempt": attempt,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        **(vision.facts(rows) if vision else {}),
        "fingerprint": folder.name,
        "versions": {package: version(package) for package in SHAPING_PACKAGES},
        "seconds": seconds,
        **surroundings(seconds, meter),
    }
    return curve_rows(trainer.state.log_history), facts


def training_rows(tokens: Path, model, tokenizer, settings: dict, folder: Path):
    """Return the rows to train on, packed where that is wanted and possible, and what became of the packing."""
    from datasets import Dataset

    from scripts.train.batches import keeps_examples_apart, packed_rows

    rows = load_rows(tokens, "train")
    if not settings["packing"]:
        return rows, "off"
    if not keeps_examples_apart(model, tokenizer.pad_token_id, model.config.vocab_size):
        log.warning("packing is not done: this attention lets packed examples see each other")
        return rows, "not done: this attention lets packed examples see each other"
    options = {"dataset": rows, "capacity": settings["max_length"]}
    with first_process_first():
        if is_first():  # packing takes seconds, and nothing vouches for what an earlier try packed
            shutil.rmtree(folder / "packed", ignore_errors=True)
        return Dataset.from_generator(packed_rows, gen_kwargs=options, cache_dir=str(folder / "packed")), "on"


def save_result(
    model, base: Path, output: Path, method: str, longest_edge: int | None = None, task: str = "chat"
) -> None:
    """Write the trained weights as a folder that is whole or absent, its manifest last.

    `longest_edge` is the limit in pixels that a vision run set; who uses its weights has to scale images alike.
    """
    from scripts.train.sharding import adapter_weights

    facts = check_manifest(base)
    with atomic_folder(output) as folder:
        if method == "full":
            save_full_model(model, base.parent, folder, facts)
            lower_longest_edge(folder, longest_edge)
        else:
            model.save_pretrained(folder, state_dict=adapter_weights(model))
            (folder / "README.md").unlink(missing_ok=True)
            tidy_adapter_config(folder / "adapter_config.json", base, facts)
        trust = facts.get("trust_remote_code", False)
        seen = {"task": task, "longest_edge": longest_edge} if task == "vision" else {}
        write_manifest(folder, base=facts["name"], method=method, trust_remote_code=trust, **seen)


def save_full_model(model, base: Path, folder: Path, facts: dict) -> None:
    """Write a fully trained model in the base's own number format, with the base's tokenizer and, if any, code."""
    import torch

    config = read_json(base / "config.json")
    model.config.use_cache = config.get("use_cache", True)
    model.to(getattr(torch, config.get("dtype") or config.get("torch_dtype") or "bfloat16")).save_pretrained(folder)
    copy_tokenizer_files(base, folder)
    if facts.get("trust_remote_code"):
        copy_code(base, folder)


def train_with_less_memory(arguments, tries: Tries) -> tuple[list[dict], dict]:
    """Train; after running out of memory, go on from the last checkpoint with half the micro-batch.

    Accumulation doubles, so that the batches, and with them the result, stay the same. Raises UserError when the
    micro-batch can't be halved any more.
    """
    a = arguments
    images = {"images": a.images} if a.images else {}

    def train(attempt: int) -> tuple[list[dict], dict]:
        if a.settings["training"]["processes"] * a.settings["training"]["nodes"] > 1:
            return train_in_processes(a, attempt)
        return train_model(a.tokens, a.base, a.checkpoints, a.output, a.settings, a.threads, attempt, **images)

    return train_in_tries(tries, train, "lower tokens.max_length or lora.r, or set training.gradient_checkpointing")


def step(arguments) -> None:
    """Run the step: train, unless the very same run is already done, and write what came of it.

    With `--exchange` it is one of several processes, and another writes what comes of them.

    The checkpoints are removed once everything is written: nothing resumes a finished run.
    """
    if arguments.exchange:
        work(arguments, train_model)
        return
    StopOnTerm()
    with only_training_in(arguments.checkpoints.parent):
        use_threads(arguments.threads)
        record = arguments.checkpoints.with_name(FINISHED)
        circumstances = finished_fingerprint(arguments)
        finished = same_finished_run(record, circumstances, arguments.output)
        if finished:
            log.info("this very run is done: its weights are taken as they are")
            write_manifest(arguments.output, **finished["manifest"])
        else:
            tries = Tries(arguments.checkpoints, circumstances, arguments.settings["training"])
            curve, facts = train_with_less_memory(arguments, tries)
            manifest = check_manifest(arguments.output / MANIFEST)
            finished = {"circumstances": circumstances, "curve": curve, "facts": facts, "manifest": manifest}
            write_json(record, finished)
        write_jsonl(arguments.curve, finished["curve"])
        write_json(arguments.facts, finished["facts"])
        shutil.rmtree(arguments.checkpoints, ignore_errors=True)


def finished_fingerprint(arguments) -> str:
    """Return the fingerprint of everything that the outputs of the step depend on."""
    return fingerprint(
        settings=arguments.settings,
        rows={split: sha256_of(arguments.tokens / f"{split}.arrow") for split in ("train", "validation")},
        base=check_manifest(arguments.base),
        threads=arguments.threads,
        versions={package: version(package) for package in SHAPING_PACKAGES},
        code=[sha256_of(path) for path in files_of_script(Path(__file__))],
    )


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("tokens", type=Path, help="folder with train.arrow and validation.arrow")
    result.add_argument("--base", type=Path, required=True, help="manifest.json of the base model")
    result.add_argument("--images", type=Path, help="folder where the rows of a vision run find their images")
    result.add_argument("--checkpoints", type=Path, required=True, help="folder for the run's checkpoints")
    result.add_argument("--output", type=Path, required=True, help="folder for the adapter, or the trained model")
    result.add_argument("--curve", type=Path, required=True, help="JSONL file for the training curve")
    result.add_argument("--facts", type=Path, required=True, help="JSON file for what happened")
    result.add_argument("--threads", type=int, default=2, help="CPU threads; another number may give other rounding")
    result.add_argument("--attempt", type=int, default=1, help=argparse.SUPPRESS)
    result.add_argument("--exchange", type=Path, help=argparse.SUPPRESS)
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
