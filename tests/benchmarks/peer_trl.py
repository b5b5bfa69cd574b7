"""A LoRA training as a user of plain TRL writes it; bench_training.py runs it in TRL's own environment.

python tests/benchmarks/peer_trl.py '{"base": ..., "rows": ..., "output": ..., "options": {...}, ...}'

Prints a line of JSON: seconds and tokens without padding of the steps after the first, the share of padding in all
batches, and the loss of each step.
"""

import json
import sys
import time

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer


class Steps(TrainerCallback):
    """The times at which optimizer steps ended."""

    def __init__(self):
        self.times = []

    def on_step_end(self, *_, **__):
        self.times.append(time.monotonic())


def main() -> None:
    """Train, and print what was measured."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    steps, tokens, places = Steps(), [], []
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
        callbacks=[steps],
    )
    collate, pad = trainer.data_collator, trainer.processing_class.pad_token_id

    def counted(rows):
        batch = collate(rows)
        places.append(batch["input_ids"].numel())
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        return batch

    assert pad is not None
    trainer.data_collator = counted
    trainer.train()
    trainer.save_model()
    first = arguments.gradient_accumulation_steps
    print(
        json.dumps(
            {
                "seconds": steps.times[-1] - steps.times[0],
                "tokens": sum(tokens[first:]),
                "padding": 1 - sum(tokens) / sum(places),
                "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
            }
        )
    )


if __name__ == "__main__":
    main()
