"""Train LoRA on the backbone and the linear head together; called by train_head.py for the method `lora`."""

from pathlib import Path

from scripts.common.base_model import load_tokenizer
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json
from scripts.train.checkpoints import checkpoint_to_take_up
from scripts.train.four_bit_layout import keep_layout
from scripts.train.head_run import HeadRun
from scripts.train.memory import loading
from scripts.train.stop import StopOnTerm

HEAD_NAME = "score"


def train_span_lora(run: HeadRun) -> tuple[list[dict], dict]:
    """Train adapter and head and write their folder; return curve and facts.

    Raises UserError when a loss is no number, on SIGTERM, and for settings that this machine can't do.
    """
    from transformers import set_seed

    from scripts.train.arguments import training_arguments
    from scripts.train.batches import Collator
    from scripts.train.features import Rows
    from scripts.train.head_model import class_weights
    from scripts.train.running import best_step, check_packages, curve_rows, load_rows, run_callbacks
    from scripts.train.span_trainer import SpanTrainer

    stop = StopOnTerm()
    settings, training = run.settings, run.settings["training"]
    check_packages(training)
    folder = run.checkpoints / run.fingerprint()
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
    arguments = training_arguments(settings, folder, run.precision, run.attempt, evaluates, len(rows))
    arguments.label_names = ["labels"]
    trainer = SpanTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=validation if evaluates else None,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=run_callbacks(training, run.checkpoints.parent.name, resumed, evaluates),
        row_seed=settings["seed"],
        group_rows=training["group_by_length"],
        stop=stop,
        keep_checkpoints=training["keep_checkpoints"],
        class_weights=weights,
    )
    trainer.train_or_finish(resumed, training["early_stopping_patience"])
    run.save(trained_head(trainer.model), lambda place: save_adapter(trainer.model, run.base, place))
    facts = run.facts(
        folder,
        steps=trainer.state.global_step,
        best_step=best_step(trainer.state),
        best_eval_loss=trainer.state.best_metric,
        rows=len(rows),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        class_weights=dict(zip(run.labels, (round(weight, 6) for weight in weights), strict=True)),
    )
    return curve_rows(trainer.state.log_history), facts


def adapted_classifier(run: HeadRun):
    """Return the base as token classifier under a fresh adapter, with the head trained in full beside it."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    from scripts.train.arguments import lora_config
    from scripts.train.head_model import load_classifier

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
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if "target modules" in str(error).lower():
            raise UserError(f"lora.target_modules: {str(error).splitlines()[0]}") from None
        raise


def trained_head(model):
    """Return the head of a PEFT model, the copy that was trained."""
    return model.get_submodule(f"base_model.model.{HEAD_NAME}").modules_to_save["default"]


def save_adapter(model, base: Path, folder: Path) -> None:
    """Write the LoRA part as plain PEFT files; the head is in its own file beside them."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    from scripts.train.running import tidy_adapter_config

    config = model.peft_config["default"]
    weights = {name: tensor for name, tensor in get_peft_model_state_dict(model).items() if ".lora_" in name}
    save_file(
        {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()},
        folder / "adapter_model.safetensors",
        {"format": "pt"},
    )
    config.save_pretrained(folder)
    path = folder / "adapter_config.json"
    written = read_json(path)
    targets = [name for name in written["target_modules"] if name != HEAD_NAME]
    write_json(
        path, {**written, "target_modules": targets, "modules_to_save": None, "exclude_modules": None}, part=True
    )
    tidy_adapter_config(path, base, check_manifest(base))
