"""Answers as a user of plain transformers makes them, for bench_transformers_answers.py: batches in the file's order.

python tests/benchmarks/peer_generate.py '{"base": ..., "prompts": ..., "output": ..., "batch": 16, ...}'

Writes the token ids of each answer, up to its end token, and prints a line of JSON with the seconds of generating.
"""

import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main() -> None:
    """Generate and write the answers."""
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    tokenizer = AutoTokenizer.from_pretrained(spec["base"], padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(spec["base"], dtype=getattr(torch, spec["dtype"]))
    lines = Path(spec["prompts"]).read_text(encoding="utf-8").splitlines()
    conversations = [json.loads(line)["messages"] for line in lines]
    answers, started = [], time.monotonic()
    for start in range(0, len(conversations), spec["batch"]):
        inputs = tokenizer.apply_chat_template(
            conversations[start : start + spec["batch"]],
            add_generation_prompt=True,
            padding=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=spec["max_new_tokens"], do_sample=False)
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            end = row.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in row else len(row)
            answers.append(row[:end])
    print(json.dumps({"seconds": time.monotonic() - started}))
    Path(spec["output"]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
