"""Train a token classifier: a linear head over a frozen backbone, or with LoRA on the backbone.

python scripts/train/train_head.py results/runs/pii/tokens --base results/models/embedded/manifest.json \
    --checkpoints results/runs/pii/checkpoints --output results/runs/pii/adapter \
    --curve results/runs/pii/curve.jsonl --facts results/runs/pii/training.json --settings '{...}'

`--settings` holds method (`head` or `lora`), seed, head, lora, qlora and training of the run. The hidden states of a
frozen backbone are constant: one forward pass over the data writes them to disk (if they fit: head.cache), and the head
trains on them in seconds, whatever the number of epochs. It trains on standardized features; afterwards the
standardization is folded into its weights.
"""

import sys

from scripts.common.cli import step_main
from scripts.train.head_run import HeadRun
from scripts.train.training_step import train_once, training_parser

RESULT_VERSION = 2  # raise it with a change of the results: see scripts/workflow/code_digest.py
LAST_ATTEMPT = 6  # a forward pass then has 128 tokens, and a micro-batch of 32 rows is down to one


def train_head(run: HeadRun) -> tuple[list[dict], dict]:
    """Train a head, with the method `lora` jointly with an adapter, and write its folder; return curve and facts."""
    from scripts.train.head_training import HeadTraining
    from scripts.train.span_training import SpanTraining

    return (HeadTraining if run.settings["method"] == "head" else SpanTraining)(run).train()


def step(arguments) -> None:
    """Run the step."""
    remedy = "lower tokens.max_length, or set head.load_in_4bit"
    train_once(arguments, HeadRun, RESULT_VERSION, train_head, remedy, LAST_ATTEMPT)


def parser():
    """Return the step's command line."""
    return training_parser(__doc__.splitlines()[0])


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
