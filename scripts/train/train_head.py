"""Train a token classifier: a linear head over a frozen backbone, or with LoRA on the backbone.

python scripts/train/train_head.py results/runs/pii/tokens --base results/models/embedded/manifest.json \
    --checkpoints results/runs/pii/checkpoints --output results/runs/pii/adapter \
    --curve results/runs/pii/curve.jsonl --facts results/runs/pii/training.json --settings '{...}'

`--settings` holds method (`head` or `lora`), seed, head, lora, qlora and training of the run. The hidden states of a
frozen backbone are constant: one forward pass over the data writes them to disk (if they fit: head.cache), and the head
trains on them in seconds, whatever the number of epochs. It trains on standardized features; afterwards the
standardization is folded into its weights.
"""

import shutil
import sys
import time

from scripts.common.base_model import load_tokenizer
from scripts.common.cli import log, step_main
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, read_json
from scripts.common.number_format import torch_dtype
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.energy import EnergyMeter
from scripts.train.head_run import HeadRun
from scripts.train.memory import loading
from scripts.train.stop import StopOnTerm
from scripts.train.training_run import SPLITS
from scripts.train.training_step import train_once, training_parser

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py
LAST_ATTEMPT = 6  # a forward pass then has 128 tokens, and a micro-batch of 32 rows is down to one


def train_head(run: HeadRun) -> tuple[list[dict], dict]:
    """Train the head over the frozen backbone and write its folder; return curve and facts.

    With several depths (`head.layer: auto`) one head is trained for each, and the one with the lowest validation loss
    is kept; of equal ones, the one at the lower layer. Raises UserError if the loss is not a number, on SIGTERM, and
    for a base without a token classifier.
    """
    from scripts.train.features import Rows
    from scripts.train.head_model import class_weights, classifier_config

    stop, meter = StopOnTerm(), EnergyMeter()
    settings, labels = run.settings, run.labels
    classifier_config(run.base.parent, labels, settings["head"]["dropout"])
    rows = {split: Rows(run.tokens / f"{split}.arrow") for split in SPLITS}
    if settings["head"]["layer"] == "auto" and not len(rows["validation"]):
        raise UserError("head.layer 'auto' needs a validation split", remedy="make one, or name a layer")
    sources, features = feature_sources(rows, run, stop)
    weights = class_weights(settings["head"]["class_weights"], rows["train"].counts(len(labels)))
    clock = time.monotonic()
    trained = {
        depth: train_at(depth, sources[depth], rows, weights, features["cached"], run, stop) for depth in run.depths
    }
    losses = {depth: loss for depth, (_, loss) in trained.items()}
    layer = min(run.depths, key=lambda depth: (losses[depth], depth)) if len(run.depths) > 1 else run.depths[0]
    features["training_seconds"] = round(time.monotonic() - clock, 3)
    trainer, _ = trained[layer]
    run.save(trainer.model, layer=layer)
    return run.result(
        trainer,
        meter,
        layer=layer,
        base_layers=run.base_layers,
        loss_by_layer={str(depth): loss for depth, loss in losses.items()},
        rows=len(rows["train"]),
        features=features,
        class_weights=run.weight_of_labels(weights),
    )


def train_at(depth: int, sources: dict, rows: dict, weights: list[float], cached: bool, run: HeadRun, stop) -> tuple:
    """Train a head on a layer's standardized hidden states; return its trainer and its validation loss.

    The standardization is folded into the weights.
    """
    import torch

    from scripts.train.arguments import trainer_options
    from scripts.train.features import fold_statistics, standardized
    from scripts.train.head_model import new_head
    from scripts.train.trainer import HeadTrainer

    statistics = statistics_of(depth, sources["train"], rows["train"], run)
    head = new_head(run.base.parent, run.labels, run.settings["seed"])
    head.to("cuda" if torch.cuda.is_available() else "cpu")
    folder = run.folder(run.precision, cached=cached, layer=depth)
    resumed = latest_checkpoint(folder)
    # The head is small, so it is in float32 whatever the backbone's number format.
    changed = {"optimizer": "adamw_torch", "gradient_checkpointing": False, "report_to": []}
    settings = {**run.settings, "training": run.settings["training"] | changed}
    bar = run.name + (f", layer {depth}" if len(run.depths) > 1 else "")
    trainer = HeadTrainer(
        model=head,
        features={split: standardized(sources[split], statistics) for split in SPLITS},
        dropout=settings["head"]["dropout"],
        class_weights=weights,
        stop=stop,
        **trainer_options(settings, folder, "fp32", run.shape, rows, bar),
    )
    trainer.train_from(resumed)
    fold_statistics(head, statistics)
    losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row] or [None]
    return trainer, trainer.state.best_metric if settings["training"]["keep_best"] else losses[-1]


def statistics_of(depth: int, source, rows, run: HeadRun):
    """Return mean and deviation of a layer's features on the training split, from disk if cached."""
    from safetensors.torch import load_file, save_file

    from scripts.train.features import feature_statistics

    path = run.states_folder(run.precision) / f"statistics-{depth}.safetensors"
    if not path.is_file():
        with atomic_path(path, part=True) as beside:
            save_file({"statistics": feature_statistics(source, rows)}, beside)
    return load_file(path)["statistics"]


def feature_sources(rows: dict, run: HeadRun, stop: StopOnTerm) -> tuple[dict, dict]:
    """Return the sources of each split's hidden states by depth, and facts: cached or not, why, sizes, seconds.

    Raises UserError if the states of several depths can't be cached.
    """
    import torch
    from accelerate.utils.memory import clear_device_cache

    from scripts.train.features import CachedFeatures, cache_bytes, cache_decision, fill_cache, free_disk, is_filled

    head, hidden = run.settings["head"], read_json(run.base.parent / "config.json")["hidden_size"]
    dtype, folder, depths = torch_dtype(run.precision), run.states_folder(run.precision), run.depths
    for stale in run.checkpoints.glob("hidden_states-*"):
        if stale != folder:
            shutil.rmtree(stale)
    tokens = sum(part.tokens for part in rows.values())
    sizes = {split: cache_bytes(part.tokens, hidden, dtype, len(depths)) for split, part in rows.items()}
    needed = sum(sizes.values())
    cached, why = cache_decision(head["cache"], needed, head["max_cache_gb"], free_disk(folder))
    log.info("hidden states %s: %s", "are kept on disk" if cached else "are computed in each epoch", why)
    facts = {"cached": cached, "why": why, "tokens": tokens, "hidden_size": hidden, "estimated_bytes": needed}
    if not cached and len(depths) > 1:
        raise UserError(
            f"head.layer 'auto' keeps the hidden states of {len(depths)} layers: {why}",
            remedy=f"set head.layer to a number, such as {depths[len(depths) // 2]}, or raise head.max_cache_gb",
        )
    if not cached:
        return {depths[0]: live_features(rows, run)}, facts | {"bytes": 0, "pass_seconds": 0.0}
    if not all(is_filled(folder, split, part, sizes[split]) for split, part in rows.items()):
        for split, live in live_features(rows, run).items():
            stop.at_once = False
            fill_cache(live, folder, split, dtype, lambda: stop.asked)
            stop.at_once = True
        del live
        clear_device_cache(garbage_collection=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = {
        depth: {
            split: CachedFeatures(folder, split, part, hidden, dtype, device, place, len(depths))
            for split, part in rows.items()
        }
        for place, depth in enumerate(depths)
    }
    facts["bytes"] = sum(path.stat().st_size for path in folder.glob("*.bin"))
    return sources, facts | {"pass_seconds": round(sum(s.seconds for s in sources[depths[0]].values()), 3)}


def live_features(rows: dict, run: HeadRun) -> dict:
    """Load the base's frozen backbone in evaluation mode; return each split's hidden states, computed at request."""
    from scripts.train.features import LiveFeatures
    from scripts.train.head_model import load_classifier

    with loading():
        model = load_classifier(
            run.base, run.labels, run.settings, run.precision, run.quantization, layer=max(run.depths)
        )
    backbone = model.base_model.requires_grad_(False).eval()
    if run.depths != [run.base_layers] and not hasattr(backbone, "norm"):
        raise UserError("head.layer: the layers of this architecture can't be identified", remedy="set it to 'last'")
    pad_id = load_tokenizer(run.base).pad_token_id
    return {split: LiveFeatures(backbone, part, pad_id, run.attempt, run.depths) for split, part in rows.items()}


def train(run: HeadRun) -> tuple[list[dict], dict]:
    """Train the head, with the method `lora` jointly with an adapter, and write its folder; return curve and facts."""
    if run.settings["method"] == "head":
        return train_head(run)
    from scripts.train.span_training import SpanTraining

    return SpanTraining(run).train()


def step(arguments) -> None:
    """Run the step."""
    remedy = "lower tokens.max_length, or set head.load_in_4bit"
    train_once(arguments, HeadRun, RESULT_VERSION, train, remedy, LAST_ATTEMPT)


def parser():
    """Return the step's command line."""
    return training_parser(__doc__.splitlines()[0])


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
