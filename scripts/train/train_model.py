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

from scripts.common.cli import step_main
from scripts.tasks import task_of
from scripts.train.arguments import process_count
from scripts.train.launch import train_in_processes
from scripts.train.processes import work
from scripts.train.training_run import TrainingRun
from scripts.train.training_step import train_once, training_parser

RESULT_VERSION = 4  # raise it with a change of the results: see scripts/workflow/code_digest.py


def train_model(run: TrainingRun) -> tuple[list[dict], dict]:
    """Train in this process and write the folder of the trained weights; return curve and facts."""
    from scripts.train.text_training import TextTraining
    from scripts.train.vision_training import VisionTraining

    return (VisionTraining if task_of(run.settings).reads_images else TextTraining)(run).train()


def step(arguments) -> None:
    """Run the step; with `--exchange` this is one of several processes, and the launcher writes the outputs."""

    def train(run: TrainingRun) -> tuple[list[dict], dict]:
        alone = process_count(run.settings["training"]) == 1
        return train_model(run) if alone else train_in_processes(arguments, run.attempt)

    if arguments.exchange:
        work(arguments, lambda: train_model(TrainingRun.of(arguments, RESULT_VERSION, arguments.attempt)))
    else:
        remedy = "lower tokens.max_length or lora.r, or set training.gradient_checkpointing"
        train_once(arguments, TrainingRun, RESULT_VERSION, train, remedy)


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
