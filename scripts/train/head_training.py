"""Training of a linear head over a frozen backbone."""

import math
import shutil
import time
from collections.abc import Callable

import torch
from accelerate.utils.memory import clear_device_cache
from safetensors.torch import load_file, save_file

from scripts.common.base_model import load_tokenizer
from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import atomic_path, read_json
from scripts.common.number_format import torch_dtype
from scripts.train.arguments import trainer_options
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.energy import EnergyMeter
from scripts.train.features import (
    LiveFeatures,
    Rows,
    SplitCache,
    cache_decision,
    feature_statistics,
    fold_statistics,
    free_disk,
    standardized,
)
from scripts.train.head_model import class_weights, classifier_config, load_classifier, new_head
from scripts.train.head_run import HeadRun
from scripts.train.memory import loading
from scripts.train.stop import StopOnTerm
from scripts.train.trainer import HeadTrainer
from scripts.train.training_run import SPLITS, check_packages


class HeadTraining:
    """The training of a head; raises UserError for a base without a token classifier."""

    def __init__(self, run: HeadRun):
        self.stop, self.meter, self.run, self.settings = StopOnTerm(), EnergyMeter(), run, run.settings
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        classifier_config(run.base.parent, run.labels, self.settings["head"]["dropout"])
        self.rows = {split: Rows(run.tokens / f"{split}.arrow") for split in SPLITS}
        counts = self.rows["train"].counts(len(run.labels))
        self.weights = class_weights(self.settings["head"]["class_weights"], counts)

    def train(self) -> tuple[list[dict], dict]:
        """Train the head and write its folder; return curve and facts.

        With several depths (`head.layer: auto`) one head is trained for each, and the one with the lowest validation
        loss is kept; of equal ones, the one at the lower layer. One that diverged is kept only if all did. Raises
        UserError on SIGTERM.
        """
        run = self.run
        check_packages(self.settings["training"])
        if self.settings["head"]["layer"] == "auto" and not len(self.rows["validation"]):
            raise UserError("head.layer 'auto' needs a validation split", remedy="make one, or name a layer")
        sources, features = self.sources()
        clock = time.monotonic()
        trained = {depth: self.train_at(depth, sources[depth], features["cached"]) for depth in run.depths}
        losses = {depth: loss for depth, (_, loss) in trained.items()}
        diverged = {depth: trainer.diverged is not None for depth, (trainer, _) in trained.items()}
        order = {depth: (diverged[depth], math.inf if losses[depth] is None else losses[depth]) for depth in run.depths}
        layer = min(run.depths, key=lambda depth: (order[depth], depth))
        features["training_seconds"] = round(time.monotonic() - clock, 3)
        trainer, _ = trained[layer]
        run.save(trainer.model, layer=layer)
        return run.result(
            trainer,
            self.meter,
            layer=layer,
            base_layers=run.base_layers,
            loss_by_layer={str(depth): loss for depth, loss in losses.items()},
            rows=len(self.rows["train"]),
            features=features,
            class_weights=run.weight_of_labels(self.weights),
        )

    def train_at(self, depth: int, sources: dict[str, Callable], cached: bool) -> tuple[HeadTrainer, float | None]:
        """Train a head on a layer's standardized hidden states; return its trainer and its validation loss.

        The standardization is folded into the weights. A head that diverged before a usable checkpoint is untrained.
        """
        run, statistics = self.run, self.statistics(depth, sources["train"])
        head = new_head(run.base.parent, run.labels, self.settings["seed"]).to(self.device)
        folder = run.folder(run.precision, cached=cached, layer=depth)
        resumed = latest_checkpoint(folder)
        # The head is small, so it is in float32 whatever the backbone's number format.
        changed = {"optimizer": "adamw_torch_fused", "gradient_checkpointing": False}
        if len(run.depths) > 1:
            changed["report_to"] = []  # which of the heads is kept, and so the run's curve, is known at the end
        settings = {**self.settings, "training": self.settings["training"] | changed}
        bar = run.name + (f", layer {depth}" if len(run.depths) > 1 else "")
        trainer = HeadTrainer(
            model=head,
            features={split: standardized(sources[split], statistics) for split in SPLITS},
            dropout=settings["head"]["dropout"],
            class_weights=self.weights,
            stop=self.stop,
            **trainer_options(settings, folder, "fp32", run.shape, self.rows, bar),
        )
        trainer.train_from(resumed)
        if trainer.diverged and not trainer.diverged["kept_step"]:
            head.load_state_dict(new_head(run.base.parent, run.labels, self.settings["seed"]).state_dict())
        fold_statistics(head, statistics)
        losses = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row] or [None]
        return trainer, trainer.state.best_metric if settings["training"]["keep_best"] else losses[-1]

    def statistics(self, depth: int, source: Callable) -> torch.Tensor:
        """Return mean and deviation of a layer's features on the training split, from disk if cached."""
        path = self.run.states_folder(self.run.precision) / f"statistics-{depth}.safetensors"
        if not path.is_file():
            with atomic_path(path, part=True) as beside:
                save_file({"statistics": feature_statistics(source, self.rows["train"])}, beside)
        return load_file(path)["statistics"]

    def sources(self) -> tuple[dict, dict]:
        """Return the sources of each split's hidden states by depth, and facts: cached or not, why, sizes, seconds.

        Raises UserError if the states of several depths can't be cached.
        """
        run, rows, head = self.run, self.rows, self.settings["head"]
        hidden = read_json(run.base.parent / "config.json")["hidden_size"]
        dtype, folder, depths = torch_dtype(run.precision), run.states_folder(run.precision), run.depths
        for stale in run.checkpoints.glob("hidden_states-*"):
            if stale != folder:
                shutil.rmtree(stale)
        caches = {split: SplitCache(folder, split, part, hidden, dtype, len(depths)) for split, part in rows.items()}
        needed = sum(cache.size(len(cache.rows)) for cache in caches.values())
        cached, why = cache_decision(head["cache"], needed, head["max_cache_gb"], free_disk(folder))
        log.info("hidden states %s: %s", "are kept on disk" if cached else "are computed in each epoch", why)
        tokens = sum(part.tokens for part in rows.values())
        facts = {"cached": cached, "why": why, "tokens": tokens, "hidden_size": hidden, "estimated_bytes": needed}
        if not cached and len(depths) > 1:
            raise UserError(
                f"head.layer 'auto' keeps the hidden states of {len(depths)} layers: {why}",
                remedy=f"set head.layer to a number, such as {depths[len(depths) // 2]}, or raise head.max_cache_gb",
            )
        if not cached:
            return {depths[0]: live_features(rows, run)}, facts | {"bytes": 0, "pass_seconds": 0.0}
        if not all(cache.is_filled() for cache in caches.values()):
            for split, live in live_features(rows, run).items():
                self.stop.at_once = False
                caches[split].fill(live, lambda: self.stop.asked)
                self.stop.at_once = True
            del live
            clear_device_cache(garbage_collection=True)
        sources = {
            depth: {split: cache.source(place, self.device) for split, cache in caches.items()}
            for place, depth in enumerate(depths)
        }
        facts["bytes"] = sum(path.stat().st_size for path in folder.glob("*.bin"))
        return sources, facts | {"pass_seconds": round(sum(cache.done()["seconds"] for cache in caches.values()), 3)}


def live_features(rows: dict, run: HeadRun) -> dict:
    """Load the base's frozen backbone in evaluation mode; return each split's hidden states, computed at request."""
    with loading():
        model = load_classifier(run, layer=max(run.depths))
    backbone = model.base_model.requires_grad_(False).eval()
    if run.depths != [run.base_layers] and not hasattr(backbone, "norm"):
        raise UserError("head.layer: the layers of this architecture can't be identified", remedy="set it to 'last'")
    pad_id = load_tokenizer(run.base).pad_token_id
    return {split: LiveFeatures(backbone, part, pad_id, run.attempt, run.depths) for split, part in rows.items()}
