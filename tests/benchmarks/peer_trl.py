"""A LoRA training as a user of plain TRL writes it; bench_training.py runs it in TRL's own environment.

python tests/benchmarks/peer_trl.py '{"base": ..., "rows": ..., "output": ..., "options": {...}, ...}'

Prints what peer_steps.py measures.
"""

import json
import sys

import torch
from datasets import load_dataset
from peer_steps import Steps
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train, and print what was measured."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    steps = Steps()
    arguments = SFTConfig(
        output_dir=spec["output"],
        num_train_epochs=1,
        learning_rate=spec["learning_rate"],
        lr_scheduler_type="cosine",
        bf16=spec["bf16"],
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        report_to="none",
        seed=1,
        dataloader_pin_memory=False,
        **spec["options"],
    )
    trainer = SFTTrainer(
        model=spec["base"],
        args=arguments,
        train_dataset=load_dataset("json", data_files=spec["rows"], split="train"),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear"
        ),
    )
    trainer.train()
    trainer.save_model()
    steps.print()


if __name__ == "__main__":
    main()
