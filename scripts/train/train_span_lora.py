"""Train LoRA on the backbone jointly with the linear head; called by train_head.py for the method `lora`."""

import copy
from pathlib import Path

from peft import get_peft_model, get_peft_model_state_dict, prepare_model_for_kbit_training
from safetensors.torch import save_file
from transformers import set_seed

from scripts.common.base_model import keep_layout, load_tokenizer
from scripts.common.files import check_manifest
from scripts.train import callbacks
from scripts.train.arguments import lora_config, missing_target_modules, training_arguments
from scripts.train.batches import Collator, load_rows
from scripts.train.checkpoints import checkpoint_to_take_up
from scripts.train.energy import EnergyMeter
from scripts.train.features import Rows
from scripts.train.head_model import class_weights, load_classifier
from scripts.train.head_run import HeadRun
from scripts.train.memory import loading
from scripts.train.stop import StopOnTerm
from scripts.train.trainer import SpanTrainer
from scripts.train.training_run import check_packages, curve_rows, tidy_adapter_config

HEAD_NAME = "score"


def train_span_lora(run: HeadRun) -> tuple[list[dict], dict]:
    """Train adapter and head and write their folder; return curve and facts.

    Raises UserError if a loss is not a number, on SIGTERM, and for settings that this machine does not support.
    """
    stop, meter = StopOnTerm(), EnergyMeter()
    settings, training = run.settings, run.settings["training"]
    check_packages(training)
    folder = run.folder(run.precision)
    resumed = checkpoint_to_take_up(folder)
    tokenizer = load_tokenizer(run.base)
    set_seed(settings["seed"])
    model = adapted_classifier(run)
    rows, validation = (
        load_rows(run.tokens, split).select_columns(["input_ids", "labels"]) for split in ("train", "validation")
    )
    counts = Rows(run.tokens / "train.arrow").counts(len(run.labels))
    weights = class_weights(settings["head"]["class_weights"], counts)
    evaluates = len(validation) > 0
    arguments = training_arguments(settings, folder, run.precision, run.shape, evaluates, len(rows))
    arguments.label_names = ["labels"]
    trainer = SpanTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=validation if evaluates else None,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=callbacks.run_callbacks(training, run.name, resumed, evaluates),
        row_seed=settings["seed"],
        group_rows=training["group_by_length"],
        stop=stop,
        keep_checkpoints=training["keep_checkpoints"],
        class_weights=weights,
    )
    trainer.train_or_finish(resumed, training["early_stopping_patience"])
    head = trainer.model.get_submodule(f"base_model.model.{HEAD_NAME}").modules_to_save["default"]
    run.save(head, lambda place: save_adapter(trainer.model, run.base, place))
    facts = run.facts(
        folder,
        meter,
        trainer,
        rows=len(rows),
        class_weights=dict(zip(run.labels, (round(weight, 6) for weight in weights), strict=True)),
    )
    return curve_rows(trainer.state.log_history), facts


def adapted_classifier(run: HeadRun):
    """Return the base as token classifier with a fresh adapter and a fully trained head."""
    with loading():
        model = load_classifier(run.base, run.labels, run.settings, run.precision, run.quantization)
    keep_layout(model)
    checkpointing = run.settings["training"]["gradient_checkpointing"]
    if run.quantization:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    elif checkpointing:
        model.enable_input_require_grads()
    config = lora_config(run.settings["lora"])
    config.task_type, config.modules_to_save, config.exclude_modules = None, [HEAD_NAME], [HEAD_NAME]
    with missing_target_modules():
        return get_peft_model(model, config)


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
