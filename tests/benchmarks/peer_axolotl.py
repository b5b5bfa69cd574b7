"""A LoRA training as `axolotl train` runs it; bench_training.py runs it in Axolotl's own environment.

python tests/benchmarks/peer_axolotl.py '{"base": ..., "rows": ..., "output": ..., "options": {...}, ...}'

Prints what peer_steps.py measures.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}

import torch
import transformers
from axolotl.cli.train import do_cli
from peer_steps import Steps


def main() -> None:
    """Train, and print what was measured."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    # It has no setting that tells transformers to train in bf16 on a CPU.
    transformers.training_args.is_torch_bf16_gpu_available = lambda: spec["bf16"]
    steps, folder = Steps(), Path(spec["output"])
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "base_model": spec["base"],
        "datasets": [{"path": spec["rows"], "ds_type": "json", "type": None}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "adapter"),
        "val_set_size": 0,
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "num_epochs": 1,
        "learning_rate": spec["learning_rate"],
        "lr_scheduler": "cosine",
        "optimizer": "adamw_torch",
        "weight_decay": 0.0,
        "warmup_steps": 0,
        "bf16": spec["bf16"],
        "fp16": False,
        "sdp_attention": True,
        **dict.fromkeys(
            ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel"), False
        ),  # CUDA
        "logging_steps": 1,
        "seed": 1,
        **spec["options"],
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    sys.argv = ["axolotl", str(path)]
    do_cli(str(path))
    steps.print()


if __name__ == "__main__":
    main()
