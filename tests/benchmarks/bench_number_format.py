"""What bf16 costs or saves on this CPU: CPU seconds of training, hidden states and generation, against fp32.

python tests/benchmarks/bench_number_format.py

The model is a Llama of SmolLM2-135M's shape with random weights. CPU time of one thread, the least of some rounds,
hardly depends on other work. Where bf16 is emulated it takes many minutes; `--rows 1` makes it shorter.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from scripts.common.number_format import CPUINFO, is_native_on_cpu, torch_dtype

SHAPE = {
    "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True, "pad_token_id": 0,
}  # fmt: skip
FORMATS = ("fp32", "bf16")


def least_seconds(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least CPU seconds of each of some works that take turns."""
    found = {name: [] for name in works}
    for _ in range(rounds + 1):  # the first round prepares kernels
        for name, work in works.items():
            started = time.process_time()
            work()
            found[name].append(time.process_time() - started)
    return {name: min(times[1:]) for name, times in found.items()}


def product(precision: str) -> Callable[[], object]:
    """Return a matrix product."""
    values = torch.ones(256, 256, dtype=torch_dtype(precision))
    return lambda: values @ values.T


def training_step(precision: str, ids: torch.Tensor) -> Callable[[], None]:
    """Return a training step of a LoRA on all linear layers, its adapter in float32."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch_dtype(precision))
    model = get_peft_model(model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def inference(precision: str, ids: torch.Tensor) -> dict[str, Callable[[], None]]:
    """Return forward passes without logits, of one row and of all, and a greedy generation of 16 tokens."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch_dtype(precision)).eval()
    options = {"max_new_tokens": 16, "min_new_tokens": 16, "do_sample": False}
    mask = torch.ones(len(ids), 24, dtype=torch.long)
    return {
        "hidden states, rows of 48: 1": torch.inference_mode()(lambda: model.model(input_ids=ids[:1], use_cache=False)),
        f"hidden states, rows of 48: {len(ids)}": torch.inference_mode()(
            lambda: model.model(input_ids=ids, use_cache=False)
        ),
        f"generation, rows of 24 + 16: {len(ids)}": lambda: model.generate(
            input_ids=ids[:, :24], attention_mask=mask, **options
        ),
    }


def main() -> None:
    """Print the CPU, what `auto` would choose, and a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8, help="of training, of the larger pass, and of generation")
    rounds, rows = parser.parse_args().rounds, parser.parse_args().rows
    torch.set_num_threads(1)
    words = Path(CPUINFO).read_text(encoding="utf-8").split("\n")
    name = next(line.partition(":")[2].strip() for line in words if line.startswith("model name"))
    flags = sorted({word for line in words for word in line.split() if word.startswith(("avx", "amx"))})
    limits = {key: os.environ[key] for key in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if key in os.environ}
    print(f"{name}: {' '.join(flags)}\n{limits or 'no limits'}, bf16 native: {is_native_on_cpu('bf16')}\n")
    print("| work, CPU seconds | fp32 | bf16 | bf16 / fp32 |\n|---|---|---|---|")
    ids = torch.randint(0, SHAPE["vocab_size"], (rows, 48), generator=torch.Generator().manual_seed(0))
    tables = {f"training step, rows of 48: {rows}": {kind: training_step(kind, ids) for kind in FORMATS}}
    found = {work: least_seconds(of, rounds) for work, of in tables.items()}
    del tables
    models = {kind: inference(kind, ids) for kind in FORMATS}
    found |= {work: least_seconds({kind: models[kind][work] for kind in FORMATS}, rounds) for work in models["fp32"]}
    products = least_seconds({kind: product(kind) for kind in FORMATS}, rounds)
    found["product of 256 x 256, ms"] = {kind: 1000 * seconds for kind, seconds in products.items()}
    for work, seconds in found.items():
        print(f"| {work} | {seconds['fp32']:.2f} | {seconds['bf16']:.2f} | {seconds['bf16'] / seconds['fp32']:.1f} |")


if __name__ == "__main__":
    main()
