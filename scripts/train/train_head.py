"""Train a token classifier: a linear head over a frozen backbone, or with LoRA on the backbone.

python scripts/train/train_head.py results/runs/pii/tokens --base results/models/embedded/manifest.json \
    --checkpoints results/runs/pii/checkpoints --output results/runs/pii/adapter \
    --curve results/runs/pii/curve.jsonl --facts results/runs/pii/training.json --settings '{...}'

`--settings` holds method (`head` or `lora`), seed, head, lora, qlora and training of the run. Under a frozen backbone
hidden states are constants: one forward pass over the data writes them to disk (where they fit: head.cache), and the
head trains on them in seconds, whatever the number of epochs.
"""

import shutil
import sys
import time
from pathlib import Path

from scripts.common.base_model import load_tokenizer, torch_dtype
from scripts.common.cli import log, run_step, step_parser
from scripts.common.errors import UserError
from scripts.common.files import MANIFEST, check_manifest, read_json, write_json, write_jsonl, write_manifest
from scripts.common.threads import use_threads
from scripts.train.checkpoints import checkpoint_to_take_up, fingerprint
from scripts.train.energy import EnergyMeter
from scripts.train.finished import FINISHED, only_training_in, same_finished_run
from scripts.train.head_run import SPLITS, HeadRun
from scripts.train.memory import free_memory, loading
from scripts.train.stop import StopOnTerm
from scripts.train.surroundings import surroundings
from scripts.train.tries import Tries, train_in_tries

LAST_ATTEMPT = 6  # then a forward pass is down to 128 tokens, and a micro-batch of 32 to one row


def check_optimizer(training: dict) -> None:
    """Say that a head needs no paged optimizer, and refuse another kind than AdamW."""
    if training["optimizer"].startswith("paged_"):
        log.info("%s: a head is small, AdamW is used", training["optimizer"])
    elif not training["optimizer"].startswith("adamw_torch"):
        raise UserError(f"training.optimizer '{training['optimizer']}': a head trains with AdamW")
    if training["report_to"]:
        log.warning("training.report_to is for adapters: a head's curve is in curve.jsonl")


def train_head(run: HeadRun) -> tuple[list[dict], dict]:
    """Train the head over the frozen backbone and write its folder; return curve and facts.

    Raises UserError when the loss is no number, on SIGTERM, and for a base without a token classifier.
    """
    import torch

    from scripts.train.features import Rows
    from scripts.train.head_loop import HeadTraining, Split
    from scripts.train.head_model import class_weights, classifier_config, new_head

    stop = StopOnTerm()
    settings, labels = run.settings, run.labels
    check_optimizer(settings["training"])
    classifier_config(run.base.parent, labels, settings["head"]["dropout"])
    rows = {split: Rows(run.tokens / f"{split}.arrow") for split in SPLITS}
    sources, features = feature_sources(rows, run, stop)
    folder = run.checkpoints / run.fingerprint(cached=features["cached"])
    head = new_head(run.base.parent, labels, settings["seed"])
    head.to("cuda" if torch.cuda.is_available() else "cpu")
    weights = class_weights(settings["head"]["class_weights"], rows["train"].counts(len(labels)))
    splits = [Split(rows[split], sources[split]) for split in SPLITS]
    loop = HeadTraining(head, *splits, settings, run.shape, weights)
    clock = time.monotonic()
    state = loop.run(folder, checkpoint_to_take_up(folder), stop, run.bar)
    features["training_seconds"] = round(time.monotonic() - clock, 3)
    run.save(head)
    facts = run.facts(
        folder,
        steps=state.step,
        best_step=state.best_step or state.step,
        best_eval_loss=state.best_loss,
        rows=len(rows["train"]),
        trainable_parameters=sum(p.numel() for p in head.parameters()),
        features=features,
        class_weights=dict(zip(labels, (round(weight, 6) for weight in weights), strict=True)),
    )
    return state.history, facts


def feature_sources(rows: dict, run: HeadRun, stop: StopOnTerm) -> tuple[dict, dict]:
    """Return where each split's hidden states come from, and the facts: kept or not, why, sizes, seconds.

    Those of other circumstances are removed, for they can be large.
    """
    import torch

    from scripts.train.features import CachedFeatures, cache_bytes, cache_decision, fill_cache, free_disk, is_filled

    head, hidden = run.settings["head"], read_json(run.base.parent / "config.json")["hidden_size"]
    dtype, folder = torch_dtype(run.precision), run.checkpoints / f"hidden_states-{fingerprint(**run.backbone_facts)}"
    for stale in run.checkpoints.glob("hidden_states-*"):
        if stale != folder:
            shutil.rmtree(stale)
    tokens = sum(part.tokens for part in rows.values())
    sizes = {split: cache_bytes(part.tokens, hidden, dtype) for split, part in rows.items()}
    needed = sum(sizes.values())
    cached, why = cache_decision(head["cache"], needed, head["max_cache_gb"], free_disk(folder))
    done = "kept on disk" if cached else "computed in each epoch"
    log.info("hidden states: %d tokens x %d x %d bytes, %s: %s", tokens, hidden, dtype.itemsize, done, why)
    facts = {"cached": cached, "why": why, "tokens": tokens, "hidden_size": hidden, "estimated_bytes": needed}
    if not cached:
        return live_features(rows, run), facts | {"bytes": 0, "pass_seconds": 0.0}
    if not all(is_filled(folder, split, part, sizes[split]) for split, part in rows.items()):
        for split, live in live_features(rows, run).items():
            stop.at_once = False
            fill_cache(live, folder, split, dtype, lambda: stop.asked)
            stop.at_once = True
        del live
        free_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sources = {split: CachedFeatures(folder, split, part, hidden, dtype, device) for split, part in rows.items()}
    facts["bytes"] = sum(path.stat().st_size for path in folder.glob("*.bin"))
    return sources, facts | {"pass_seconds": round(sum(source.seconds for source in sources.values()), 3)}


def live_features(rows: dict, run: HeadRun) -> dict:
    """Load the base's backbone, frozen, in evaluation mode, and return each split's hidden states as it gives them."""
    from scripts.train.features import LiveFeatures
    from scripts.train.head_model import load_classifier

    with loading():
        model = load_classifier(run.base, run.labels, run.settings, run.precision, run.quantization)
    backbone = model.base_model.requires_grad_(False).eval()
    pad_id = load_tokenizer(run.base).pad_token_id
    return {split: LiveFeatures(backbone, part, pad_id, run.attempt) for split, part in rows.items()}


def train_with_less_memory(run: HeadRun, tries: Tries) -> tuple[list[dict], dict]:
    """Train; after running out of memory, go on with half the micro-batch, and half the tokens of a forward pass."""
    from scripts.train.train_span_lora import train_span_lora

    def train(attempt: int) -> tuple[list[dict], dict]:
        run.attempt = attempt
        return (train_head if run.settings["method"] == "head" else train_span_lora)(run)

    return train_in_tries(tries, train, "lower tokens.max_length, or set head.load_in_4bit")


def step(arguments) -> None:
    """Run the step: train, unless the very same run is already done, and write what came of it.

    Checkpoints and hidden states are removed once everything is written: nothing resumes a finished run.
    """
    StopOnTerm()
    with only_training_in(arguments.checkpoints.parent):
        use_threads(arguments.threads)
        a = arguments
        run = HeadRun(a.tokens, a.base, a.checkpoints, a.output, a.settings, a.threads)
        record, circumstances = run.checkpoints.with_name(FINISHED), run.finished_fingerprint()
        finished = same_finished_run(record, circumstances, run.output)
        if finished:
            log.info("this very run is done: its weights are taken as they are")
            write_manifest(run.output, **finished["manifest"])
        else:
            meter = EnergyMeter()
            tries = Tries(run.checkpoints, circumstances, run.settings["training"], LAST_ATTEMPT)
            curve, facts = train_with_less_memory(run, tries)
            facts |= surroundings(facts["seconds"], meter)
            manifest = check_manifest(run.output / MANIFEST)
            finished = {"circumstances": circumstances, "curve": curve, "facts": facts, "manifest": manifest}
            write_json(record, finished)
        write_jsonl(arguments.curve, finished["curve"])
        write_json(arguments.facts, finished["facts"])
        shutil.rmtree(run.checkpoints, ignore_errors=True)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("tokens", type=Path, help="folder with train.arrow, validation.arrow and labels.json")
    result.add_argument("--base", type=Path, required=True, help="manifest.json of the base model")
    result.add_argument("--checkpoints", type=Path, required=True, help="folder for checkpoints and hidden states")
    result.add_argument("--output", type=Path, required=True, help="folder for the head, and LoRA where there is one")
    result.add_argument("--curve", type=Path, required=True, help="JSONL file for the training curve")
    result.add_argument("--facts", type=Path, required=True, help="JSON file for what happened")
    result.add_argument("--threads", type=int, default=2, help="CPU threads; another number may give other rounding")
    return result


def main(argv=None) -> int:
    """Run the command line; return the exit status."""
    return run_step(step, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
