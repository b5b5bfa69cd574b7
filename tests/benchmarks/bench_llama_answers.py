"""Answers of a GGUF file through llama.cpp: the step beside llama-cpp-python, which answers one prompt after the other.

    python -m tests.benchmarks.bench_llama_answers
    python -m tests.benchmarks.bench_llama_answers --quants bf16 --likelihood
    python -m tests.benchmarks.bench_llama_answers --prompts 12 --tokens 8

The prompts share a system message and three shown examples. Ours is the step as the workflow runs it: on a CPU it has
one thread, as the other sides have; its first ten answers are made one at a time. All answer greedily, at most
`--tokens` tokens; generated tokens are counted per second of the whole process. One of the other sides has an empty
cache for every prompt, one keeps the beginning from prompt to prompt, as llama-cpp-python does by itself. Where an
answer differs from that of single calls, the two largest logits must be no further apart than rounding: twice the
largest change of their difference from single calls to a batch, measured at every token of the first answers. The
weights are those of SmolLM2-135M-Instruct, whose width is not a multiple of 256: most of its q4_k_m file is Q5_0 and
Q8_0.
"""

import argparse
import ctypes
import json
import sys
import tempfile
from pathlib import Path

import numpy

from scripts.common.files import read_jsonl, write_jsonl
from scripts.gguf.llama import first_difference
from scripts.gguf.llama_sequences import MOST, open_sequences
from tests.benchmarks.compare import ROOT, Goal, Ran, compare, run
from tests.support.smollm2 import fetch_smollm2
from tests.support.training import run_settings

ROUNDING = 1.0  # of the difference of two logits, at most: 0.61 was measured for 4- and 5-bit weights
CLOSE = 0.03  # of a likelihood, relative: activations are rounded to 8 bits, with another kernel for a single token
SYSTEM = (
    "You report for the fans' channel of a football club. Write at least ten sentences about the moment that the user "
    "describes, as the loudest fan in the stand would tell it: exaggerate, joke, and never insult a player, a referee "
    "or the fans of another club. Use capital letters for at most two words. Do not invent scores, minutes or names "
    "that the description does not have. Say what it felt like in the stand, and end with what you hope for next."
)
SHOWN = (
    (
        "The keeper saves a penalty with his foot.",
        "He went the wrong way and still got there! One leg stayed behind like a stubborn goat, the ball met it, and "
        "the whole stand forgot how to sit. I hugged a man I have never seen. May he keep that boot in a glass case.",
    ),
    (
        "The captain is substituted and gives his armband to a boy of seventeen.",
        "You could hear four thousand people swallow. The armband went twice around that arm and he still ran as if it "
        "were made of lead and gold. I told everybody near me that I had known it. May he wear it for ten years.",
    ),
    (
        "The away fans sing so loudly that the kick-off is late.",
        "They sang, so we sang back, and in between the referee lost his whistle in the noise. My neighbour's "
        "dog joined the second verse and hit the high note. I have no voice left and no regrets. May every Saturday "
        "begin like this one.",
    ),
)


def write_test(path: Path, count: int) -> None:
    """Write a test split of prompts that share all but the last question."""
    before = [{"role": "system", "content": SYSTEM}]
    for question, answer in SHOWN:
        before += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    records = list(read_jsonl(ROOT / "data/captions/test.jsonl"))[:count]
    if len(records) < count:
        raise SystemExit(f"there are {len(records)} prompts")
    rows = []
    for number, record in enumerate(records):
        question = record["prompt"].removeprefix("Write a caption: ")
        asked = [*before, {"role": "user", "content": question[:1].upper() + question[1:]}]
        messages = [*asked, {"role": "assistant", "content": record["completion"]}]
        keys = dict.fromkeys(("spans", "label", "group", "origin")) | {"meta": {}}
        rows.append({"id": str(number), "messages": messages, "expected": record["completion"], **keys})
    write_jsonl(path, rows)


def quantized(source: Path, output: Path, quant: str) -> Path:
    """Quantize a GGUF file, of whose blocks the values are taken as they are."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant.upper()}")
    options.allow_requantize = True
    if llama_cpp.llama_model_quantize(str(source).encode(), str(output).encode(), ctypes.byref(options)):
        raise SystemExit(f"llama.cpp can't quantize {source} as {quant}")
    return output


def measured(ran: Ran, answers: Path) -> dict[str, float]:
    """Return a side's numbers by unit."""
    tokens = sum(row["tokens"] for row in read_jsonl(answers))
    return {"tokens/s": tokens / ran.seconds, "s": ran.seconds, "CPU s": ran.cpu_seconds, "MiB": ran.mib}


class Sides:
    """The step and its peers on one GGUF file and test split; `folder` gets their outputs."""

    def __init__(self, folder: Path, model: Path, arguments: argparse.Namespace):
        self.folder, self.model, self.arguments = folder, model, arguments

    def ours(self) -> dict[str, float]:
        """Run the step; without `--likelihood` the expected answers are left out."""
        test, answers = self.folder / "asked.jsonl", self.folder / "ours.jsonl"
        rows = list(read_jsonl(self.folder / "test.jsonl"))
        write_jsonl(test, rows if self.arguments.likelihood else [{**row, "expected": ""} for row in rows])
        settings = run_settings(generation={"max_new_tokens": self.arguments.tokens, "temperature": 0})
        command = [sys.executable, ROOT / "scripts/predict/predict_with_llama.py", self.model, "--test", test]
        command += ["--answers", answers, "--likelihood", self.folder / "likelihood.jsonl"]
        command += ["--threads", "1", "--settings", json.dumps(settings)]
        return measured(run([*map(str, command)], cwd=ROOT), answers)

    def peer(self, *options: str) -> dict[str, float]:
        """Run llama-cpp-python, one prompt after the other; count the answers that are those of ours."""
        answers = self.folder / "peer.jsonl"
        command = [sys.executable, "-m", "tests.benchmarks.peer_llama_answers", self.model]
        command += [self.folder / "test.jsonl", answers, "--tokens", self.arguments.tokens, "--threads", "1", *options]
        command += ["--likelihood"] if self.arguments.likelihood else []
        found = measured(run([*map(str, command)], cwd=ROOT), answers)
        ours, peers = list(read_jsonl(self.folder / "ours.jsonl")), list(read_jsonl(answers))
        same = [row["answer"] == other["answer"] for row, other in zip(ours, peers, strict=True)]
        return found | {"same answers": sum(same)}

    def check(self) -> None:
        """Raise SystemExit where an answer differs from single calls at no near tie, or where a likelihood differs."""
        import llama_cpp

        ours, peers = (list(read_jsonl(self.folder / f"{name}.jsonl")) for name in ("ours", "peer"))
        if self.arguments.likelihood:
            for row, other in zip(read_jsonl(self.folder / "likelihood.jsonl"), peers, strict=True):
                if abs(row["nll"] / other["nll"] - 1) > CLOSE:
                    raise SystemExit(f"the likelihood of {row['id']} is {row['nll']}, one by one {other['nll']}")
        model = llama_cpp.Llama(str(self.model), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)
        limit = 2 * rounding(model, peers[:MOST])
        print(f"two logits change their difference by up to {limit / 2:.3g} from single calls to a batch", flush=True)
        if limit > 2 * ROUNDING:
            raise SystemExit(f"that is more than {ROUNDING}, and no rounding")
        for row, other in zip(ours, peers, strict=True):
            if row["answer"] == other["answer"]:
                continue
            ids, start = other["ids"], other["prompt"]
            ends = range(start, len(ids) + 1)
            texts = (model.detokenize(ids[start:end]).decode(errors="ignore").strip() for end in ends)
            agreed = start + sum(row["answer"].startswith(text) for text in texts) - 1  # tokens, with the prompt's
            # The text of a token may be the beginning of that of another, so the one before may be the first to differ.
            two = (numpy.sort(logits_after(model, ids[:end]))[-2:] for end in range(max(agreed - 2, start), agreed + 1))
            gap = min(float(first - second) for second, first in two)
            if gap > limit:
                raise SystemExit(f"'{row['answer']}' and '{other['answer']}' differ at a gap of {gap:.2f}")
        model.close()


def logits_after(model, ids: list[int]) -> numpy.ndarray:
    """Return the logits after some tokens: [vocabulary], until the next evaluation. Those in the cache stay there."""
    import llama_cpp

    known = model.input_ids[: model.n_tokens].tolist()
    model.n_tokens = min(first_difference(known, ids), len(ids) - 1)
    model.eval(ids[model.n_tokens :])
    return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(model.ctx, -1), shape=(model.n_vocab(),))


def rounding(model, answered: list[dict]) -> float:
    """Return by how much the difference of the two largest logits changes at most from single calls to a batch.

    Both read the same prompts and then, token by token, the same answers.
    """
    alone: list[list[tuple[int, int, float]]] = []  # of each token of each answer: the two best, and their difference
    for row in answered:
        alone.append([])
        for end in range(row["prompt"], len(row["ids"])):
            logits = logits_after(model, row["ids"][:end])
            second, first = numpy.argpartition(logits, -2)[-2:].tolist()
            alone[-1].append((first, second, float(logits[first] - logits[second])))
    largest = 0.0
    with open_sequences(model, len(answered), max(len(row["ids"]) for row in answered), threads=1) as sequences:
        for number, row in enumerate(answered):
            for _ in sequences.extend(number, 0, row["ids"][: row["prompt"] - 1]):
                pass
        for token in range(max(map(len, alone))):
            numbers = [number for number, found in enumerate(alone) if token < len(found)]
            places = [answered[number]["prompt"] + token - 1 for number in numbers]
            ids = [answered[number]["ids"][place] for number, place in zip(numbers, places, strict=True)]
            logits = sequences.evaluate([*zip(ids, places, numbers, strict=True)])
            for number, together in zip(numbers, logits, strict=True):
                first, second, difference = alone[number][token]
                largest = max(largest, abs(difference - float(together[first] - together[second])))
    return largest


def main(argv=None) -> int:
    """Measure each quant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quants", nargs="+", default=["q4_k_m"], help="llama.cpp's names")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--likelihood", action="store_true", help="with the likelihoods of expected answers")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_test(folder / "test.jsonl", arguments.prompts)
        base = fetch_smollm2(folder)
        for quant in arguments.quants:
            sides = Sides(folder, quantized(base, folder / f"{quant}.gguf", quant), arguments)
            row = f"llama_answers_{quant}{'_likelihood' * arguments.likelihood}"
            what = f"answers{' and likelihoods' * arguments.likelihood} of SmolLM2-135M, {quant}, one thread: "
            what += f"{arguments.prompts} prompts x {arguments.tokens} tokens"
            emptied, kept = "llama-cpp-python, an empty cache for every prompt", "llama-cpp-python, the beginning kept"
            compare(
                [
                    Goal(row, what, "tokens/s", ">= 3", True, against=[emptied]),
                    Goal(f"{row}_kept", what, "tokens/s", ">= 1", True, against=[kept]),
                ],
                {
                    "ours": sides.ours,
                    kept: lambda sides=sides: sides.peer("--keep"),
                    emptied: sides.peer,
                },
                rounds=arguments.rounds,
                check=lambda _, sides=sides: sides.check(),
                versions=["llama-cpp-python"],
                note="the prompts share their first 350 of about 380 tokens",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
