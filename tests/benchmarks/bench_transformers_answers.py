"""Answers through transformers against plain batches in the file's order, padded on the left: the whole process.

python -m tests.benchmarks.bench_transformers_answers
python -m tests.benchmarks.bench_transformers_answers --prompts 32 --rounds 1

SmolLM2-135M-Instruct answers tasks about the captions data, greedily, in the format that the CPU computes natively. The
prompts share a system message; prompts and answers have mixed lengths. Answers that differ must do so at a near tie.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.common.number_format import is_native_on_cpu
from scripts.config.runs import Run
from tests.benchmarks.compare import ROOT, Goal, compare, run
from tests.support.gguf_files import dequantized
from tests.support.smollm2 import fetch_smollm2

CACHE = Path.home() / ".cache/snaketune/smollm2"
BATCH, MAX_NEW_TOKENS, THREADS = 16, 96, 2
SYSTEM = "You write for the fans of a small sports club. Be short, friendly and exact, and keep all names as they are."
TASKS = (
    "Answer in one word: where does this happen?",
    "Write a caption:",
    "Summarize this in one short sentence:",
    "Who is the hero of this, and why?",
    "Name the best moment in a few words:",
)
SCENES = (1, 1, 2, 4, 7, 10, 14, 18)  # in a prompt: 60 to 350 tokens


def make_prompts(count: int) -> list[dict]:
    """Return rows {messages} of prompts."""
    source = random.Random(0)
    known = [row["prompt"].split(": ", 1)[1] for row in read_jsonl(ROOT / "data/captions/train.jsonl")]
    rows = []
    for _ in range(count):
        question = " ".join([source.choice(TASKS), *source.sample(known, source.choice(SCENES))])
        rows.append({"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]})
    return rows


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def ours(base: Path, prompts: Path, folder: Path) -> dict[str, float]:
    """Run our step, and return its numbers. One record of a test split, which it needs, is answered in addition."""
    own = {"max_new_tokens": MAX_NEW_TOKENS, "batch_size": BATCH}
    settings = Run.model_validate({"dataset": "d", "model": "m", "method": "prompt", "generation": own})
    messages = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hello!"}]
    test = write_lines(folder / "test.jsonl", [{"id": "1", "messages": messages}])
    command = [
        sys.executable, ROOT / "scripts/predict/predict_with_transformers.py", base, "--test", test,
        "--prompt-set", f"tasks={prompts}", "--answers", folder / "answers.jsonl",
        "--likelihood", folder / "likelihood.jsonl", "--threads", THREADS,
        "--settings", settings.model_dump_json(),
    ]  # fmt: skip
    ran = run([str(word) for word in command], cwd=ROOT)
    return {"s": ran.seconds, "CPU s": ran.cpu_seconds, "MiB": ran.mib}


def plain(base: Path, prompts: Path, folder: Path) -> dict[str, float]:
    """Run plain transformers, and return its numbers."""
    spec = {
        "base": str(base.parent), "prompts": str(prompts), "output": str(folder / "plain.json"), "batch": BATCH,
        "max_new_tokens": MAX_NEW_TOKENS, "threads": THREADS,
        "dtype": "bfloat16" if is_native_on_cpu("bf16") else "float32",
    }  # fmt: skip
    ran = run([sys.executable, str(ROOT / "tests/benchmarks/peer_generate.py"), json.dumps(spec)], cwd=ROOT)
    return {"s": ran.seconds, "CPU s": ran.cpu_seconds, "MiB": ran.mib}


def first_difference(tokenizer, answer: list[int], text: str) -> range:
    """Return the places of an answer's tokens of which one is the first that `text`, another answer, does not have.

    They are several where white space at the end of `text` is gone, or a character has several tokens.
    """

    def place(shown: Callable[[str], str]) -> int:
        beginnings = (tokenizer.decode(answer[: place + 1], skip_special_tokens=True) for place in range(len(answer)))
        found = (place for place, each in enumerate(beginnings) if not text.startswith(shown(each)))
        return next(found, len(answer))

    return range(place(str.lstrip), place(lambda each: each.strip().rstrip("\ufffd")) + 1)


def check_answers(base: Path, prompts: list[dict], folder: Path) -> str:
    """Return how many answers differ; SystemExit if one does where the two most probable tokens are no near tie.

    They are one if their logits differ by at most twice the measured rounding: the greatest change of the difference of
    a prompt's two best logits from the prompt alone to a padded batch.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if is_native_on_cpu("bf16") else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base.parent, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(base.parent, padding_side="left")
    chats = [row["messages"] for row in prompts]
    ids = [tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"] for chat in chats]

    def logits(rows: list[list[int]]):
        inputs = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        with torch.inference_mode():
            return model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, 0].float()

    def gap(row: list[int]) -> float:
        best, second = logits([row])[0].topk(2).values.tolist()
        return best - second

    rounding = 0.0
    for start in range(0, len(ids), BATCH):
        batch = ids[start : start + BATCH]
        for row, together in zip(batch, logits(batch), strict=True):
            (best, second), places = logits([row])[0].topk(2)
            change = (best - second) - (together[places[0]] - together[places[1]])
            rounding = max(rounding, abs(change.item()))
    found = [row["answer"] for row in read_jsonl(folder / "answers.jsonl") if row["prompt_set"] == "tasks"]
    expected = json.loads((folder / "plain.json").read_text(encoding="utf-8"))
    differ = 0
    for asked, text, answer in zip(ids, found, expected, strict=True):
        other = tokenizer.decode(answer, skip_special_tokens=True).strip()
        if text == other:
            continue
        differ += 1
        nearest = min(gap(asked + answer[:place]) for place in first_difference(tokenizer, answer, text))
        if nearest > 2 * rounding:
            raise SystemExit(
                f"'{text}' and '{other}' differ where the two best logits are {nearest:.3g} apart; rounding changes it "
                f"by {rounding:.3g}"
            )
    return f"{differ} of {len(found)} answers differ, where the best logits are less than {2 * rounding:.2g} apart"


def main(argv=None) -> None:
    """Measure both sides, then compare their answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(argv)
    rows = make_prompts(arguments.prompts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = dequantized(fetch_smollm2(CACHE), folder / "base") / "manifest.json"
        prompts = write_lines(folder / "prompts.jsonl", rows)
        precision = "bf16" if is_native_on_cpu("bf16") else "fp32"
        compare(
            Goal(
                "transformers_answers",
                f"answers through transformers: {arguments.prompts} prompts, batch {BATCH}, SmolLM2-135M",
                "s",
                f"<= {1 / 1.2:.3f}",
            ),
            {
                "ours": lambda: ours(base, prompts, folder),
                "plain left-padded batches": lambda: plain(base, prompts, folder),
            },
            rounds=arguments.rounds,
            check=lambda _: print(check_answers(base, rows, folder)),
            versions=["torch", "transformers"],
            note=f"{precision}, {THREADS} threads, at most {MAX_NEW_TOKENS} tokens an answer",
        )


if __name__ == "__main__":
    main()
