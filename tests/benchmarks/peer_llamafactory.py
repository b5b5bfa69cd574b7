"""A LoRA training as `llamafactory-cli train` runs it; bench_training.py runs it in LLaMA-Factory's own environment.

python tests/benchmarks/peer_llamafactory.py '{"base": ..., "rows": ..., "output": ..., "options": {...}, ...}'

Prints what peer_steps.py measures. The base is in the number format that it trains in: LLaMA-Factory takes the file's.
"""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from llamafactory.train.tuner import run_exp
from peer_steps import Steps


def main() -> None:
    """Train, and print what was measured."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    steps, folder = Steps(), Path(spec["output"])
    load_dataset("json", data_files=spec["rows"], split="train").save_to_disk(str(folder / "tokenized"))
    run_exp(
        {
            "model_name_or_path": spec["base"],
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": 16,
            "lora_alpha": 32,
            "lora_dropout": 0.0,
            "lora_target": "all",
            "dataset": "rows",  # required, but the tokenized rows are read
            "template": "empty",
            "tokenized_path": str(folder / "tokenized"),
            "output_dir": str(folder / "adapter"),
            "num_train_epochs": 1.0,
            "learning_rate": spec["learning_rate"],
            "lr_scheduler_type": "cosine",
            "bf16": spec["bf16"],
            "use_cpu": True,
            "logging_steps": 1,
            "report_to": "none",
            "seed": 1,
            "dataloader_pin_memory": False,
            **spec["options"],
        }
    )
    steps.print()


if __name__ == "__main__":
    main()
