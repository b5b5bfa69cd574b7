"""Convert a run's settings to configurations of transformers and PEFT."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError


def process_count(training: dict) -> int:
    """Return the number of processes on all nodes; `training` is the run's section of that name."""
    return training["processes"] * training["nodes"]


def batch_shape(training: dict, attempt: int) -> tuple[int, int]:
    """Return micro-batch and accumulation per process for an attempt (1, 2, ...); the rows of a step stay the same.

    Processes share the micro-batches of a step, and if there are too few, the rows of each. Each further attempt halves
    the micro-batch while it is even, and doubles the accumulation.
    """
    processes = process_count(training)
    shared = math.gcd(training["accumulation"], processes)
    micro_batch, accumulation = training["micro_batch"] // (processes // shared), training["accumulation"] // shared
    for _ in range(attempt - 1):
        if micro_batch % 2 == 0:
            micro_batch, accumulation = micro_batch // 2, accumulation * 2
    return micro_batch, accumulation


def steps_to_stop_at(training: dict, rows: int) -> int | None:
    """Return `max_steps` if it ends the training before the epochs do, else None.

    Otherwise transformers would train beyond the epochs, up to `max_steps`.
    """
    micro_batches = math.ceil(rows / training["micro_batch"])
    whole = math.ceil(training["epochs"] * max(math.ceil(micro_batches / training["accumulation"]), 1))
    wanted = training["max_steps"]
    return wanted if wanted is not None and wanted < whole else None


def uses_checkpointing(training: dict, in_parts: bool = False) -> bool:
    """Return whether activations are computed again in the backward pass.

    `auto`: yes, except for micro-batches in parts (scripts/train/unpadded.py), because a part has few activations.
    """
    wanted = training["gradient_checkpointing"]
    return not in_parts if wanted == "auto" else wanted


def trainer_options(
    settings: dict,
    folder: Path,
    precision: str,
    shape: tuple[int, int],
    splits: dict[str, Sequence],
    name: str,
    in_parts: bool = False,
) -> dict:
    """Return a trainer's arguments, rows and callbacks for a run's settings; without validation rows nothing evaluates.

    `shape` is a process's micro-batch and accumulation, `splits` has the rows of train and validation, `name` is that
    of the progress bar, and `in_parts` says whether micro-batches are computed in parts of whole rows.
    """
    import torch
    from transformers import TrainingArguments

    from scripts.train.callbacks import run_callbacks

    training, (micro_batch, accumulation), rows = settings["training"], shape, splits["train"]
    evaluates = len(splits["validation"]) > 0
    optimizer = training["optimizer"]
    if optimizer.startswith("paged_") and not torch.cuda.is_available():
        log.warning("%s needs CUDA: AdamW is used", optimizer)
        optimizer = "adamw_torch"
    when = {"strategy": "steps", "steps": training["eval_steps"]} if training["eval_steps"] else {"strategy": "epoch"}
    saves = when if evaluates or not training["checkpoint_steps"] else {"strategy": "no"}
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=training["epochs"],
        max_steps=steps_to_stop_at(training, len(rows)) or -1,
        learning_rate=training["learning_rate"],
        lr_scheduler_type=training["scheduler"],
        lr_scheduler_kwargs={"min_lr_rate": 0.1} if training["scheduler"] == "cosine_with_min_lr" else None,
        warmup_steps=training["warmup_ratio"],
        per_device_train_batch_size=micro_batch,
        per_device_eval_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        optim=optimizer,
        weight_decay=training["weight_decay"],
        adam_beta2=training["adam_beta2"],
        max_grad_norm=training["max_grad_norm"],
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        gradient_checkpointing=uses_checkpointing(training, in_parts),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=training["logging_steps"],
        log_on_each_node=False,
        ddp_find_unused_parameters=False,
        logging_nan_inf_filter=False,
        eval_strategy=when["strategy"] if evaluates else "no",
        eval_steps=when.get("steps"),
        save_strategy=saves["strategy"],
        save_steps=saves.get("steps", 500),
        save_total_limit=training["keep_checkpoints"],
        load_best_model_at_end=evaluates and training["keep_best"],
        metric_for_best_model="eval_loss" if evaluates else None,
        restore_callback_states_from_checkpoint=True,
        report_to="none",  # see LiveCurve
        seed=settings["seed"],
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
    )
    return {
        "args": arguments,
        "train_dataset": rows,
        "eval_dataset": splits["validation"] if evaluates else None,
        "callbacks": run_callbacks(settings, folder, name, evaluates),
    }


def lora_config(lora: dict):
    """Return PEFT's configuration of the adapter; `lora` is the run's section of that name."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        use_rslora=lora["rslora"],
        use_dora=lora["dora"],
    )


@contextmanager
def missing_target_modules() -> Iterator[None]:
    """Turn PEFT's error about modules missing in the model into a UserError."""
    try:
        yield
    except ValueError as error:
        if "target modules" in str(error).lower():
            raise UserError(f"lora.target_modules: {str(error).splitlines()[0]}") from None
        raise
