"""Near duplicates beside datasketch and rensa, all three against the exact Jaccard similarity of all pairs.

    python -m tests.benchmarks.bench_near_duplicates
    python -m tests.benchmarks.bench_near_duplicates --rows 2000 --rounds 1

Ours are the steps that ingest records and split them, duplicates included, in two processes. The others get the folded
texts, make MinHash signatures of 256 slots and drop what their index finds, in one process. Recall is the share of
texts with an earlier kept one at the threshold or above, by brute force, that are dropped; a wrong drop is a text
without any earlier one at the threshold.
"""

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scripts.common.files import read_jsonl
from scripts.dataset.compared import folded
from tests.benchmarks.bench_dataset import LABELS, SETTINGS, SYLLABLES, commands
from tests.benchmarks.compare import ROOT, Goal, compare, run
from tests.benchmarks.peers import PINS, peer

THRESHOLD, SIZE = SETTINGS["deduplicate"]["threshold"], SETTINGS["deduplicate"]["shingle"]
REPEATED = 0.2  # of the texts are an earlier one with some words changed
BITS = 512  # of the sketches by which pairs are excluded exactly
BLOCK = 2048


def write_raw(path: Path, rows: int) -> list[str]:
    """Write chats, a fifth of them earlier ones with up to eight words changed; return the folded compared texts."""
    rng = random.Random(rows)
    words = ["".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3, 3, 4)))) for _ in range(30_000)]
    weights = list(np.cumsum(1 / np.arange(5, len(words) + 5)))
    chats: list[list[str]] = []
    texts = []
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(rows):
            if chats and rng.random() < REPEATED:
                chat = list(rng.choice(chats))
                for _ in range(rng.randint(0, 8)):
                    chat[rng.randrange(len(chat))] = rng.choice(words)
            else:
                chat = rng.choices(words, cum_weights=weights, k=rng.randint(20, 100))
            chats.append(chat)
            question, answer = " ".join(chat[:8]), " ".join(chat[8:])
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns, "type": rng.choice(LABELS)}, ensure_ascii=False) + "\n")
            texts.append(f"user {question} assistant {answer}")
    return folded(texts)


def shingles(text: str) -> frozenset[str]:
    """Return the set of a text's shingles."""
    return frozenset(text[start : start + SIZE] for start in range(max(1, len(text) - SIZE + 1)))


def pairs_to_compare(sets: list[frozenset[str]]) -> Iterator[tuple[int, int]]:
    """Yield all pairs of sets but those that a bound shows to be below the threshold.

    Each set has a sketch: the parity of its shingles in each of BITS buckets. Two sketches differ in no more bits than
    the sets differ in shingles, which are at most (1 - t) / (1 + t) of both sizes together if the similarity is t.
    """
    buckets = np.array([hash(shingle) % BITS for each in sets for shingle in each])
    sizes = np.array([len(each) for each in sets])
    flat = np.repeat(np.arange(len(sets)), sizes) * BITS + buckets
    sketches = np.packbits(np.bincount(flat, minlength=len(sets) * BITS).astype(np.uint8) & 1).view(np.uint64)
    sketches = sketches.reshape(len(sets), -1)
    order = np.argsort(sizes, kind="stable")
    sketches, sizes = sketches[order], sizes[order]
    for start in range(0, len(sets), BLOCK // 32):
        ours = slice(start, min(start + BLOCK // 32, len(sets)))
        end = np.searchsorted(sizes, sizes[ours.stop - 1] / THRESHOLD, side="right")
        for first in range(start, end, BLOCK):
            others = slice(first, min(first + BLOCK, end))
            differing = np.zeros((ours.stop - start, others.stop - first), np.uint16)
            for word in range(sketches.shape[1]):
                differing += np.bitwise_count(sketches[ours, None, word] ^ sketches[None, others, word])
            most = (1 - THRESHOLD) / (1 + THRESHOLD) * (sizes[ours, None] + sizes[None, others]) + 1e-6
            for one, other in zip(*np.nonzero(differing <= most), strict=True):
                if start + one < first + other:
                    yield order[start + one], order[first + other]


def truth(texts: list[str]) -> tuple[set[int], set[int]]:
    """Return the texts to drop by definition, and all texts with an earlier one at the threshold or above."""
    sets = [shingles(text) for text in texts]
    earlier: dict[int, list[int]] = {}
    for pair in pairs_to_compare(sets):
        first, second = sorted(map(int, pair))
        shared = len(sets[first] & sets[second])
        if shared / (len(sets[first]) + len(sets[second]) - shared) >= THRESHOLD:
            earlier.setdefault(second, []).append(first)
    dropped: set[int] = set()
    for number in sorted(earlier):
        if any(other not in dropped for other in earlier[number]):
            dropped.add(number)
    return dropped, set(earlier)


def ours(raw: Path) -> tuple[dict[str, float], set[int]]:
    """Run our two steps; return seconds, CPU seconds and MiB, and the dropped rows."""
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        steps, environment = commands(raw, Path(folder), 2), os.environ | {"PYTHONPATH": str(ROOT)}
        done = [run(steps[name], env=environment) for name in ("ingest_records", "split_records")]
        dropped = {int(row["origin"].rpartition(":")[2]) - 1 for row in read_jsonl(f"{folder}/duplicates.jsonl")}
    used = {"s": sum(each.seconds for each in done), "CPU s": sum(each.cpu_seconds for each in done)}
    return used | {"MiB": max(each.mib for each in done)}, dropped


def theirs(library: str, texts: Path) -> tuple[dict[str, float], set[int]]:
    """Run a peer; return seconds, CPU seconds and MiB, and the dropped rows."""
    program = [str(peer("minhash")), str(Path(__file__).with_name("peer_minhash.py"))]
    done = run([*program, library, str(texts), str(THRESHOLD), str(SIZE)])
    return {"s": done.seconds, "CPU s": done.cpu_seconds, "MiB": done.mib}, set(json.loads(done.output))


def judged(found: tuple[dict[str, float], set[int]], right: set[int], similar: set[int]) -> dict[str, float]:
    """Return recall, the share of the dropped texts that have an earlier similar one, and what was used."""
    used, dropped = found
    share = 100 * len(dropped & similar) / max(len(dropped), 1)
    return {"% recall": 100 * len(dropped & right) / len(right), "% right": share, **used}


def main(argv=None) -> None:
    """Measure all three in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000, help="chat records (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="times that each side runs (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
        raw, folded_texts = Path(folder, "raw.jsonl"), Path(folder, "texts.jsonl")
        texts = write_raw(raw, arguments.rows)
        folded_texts.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
        right, similar = truth(texts)
        print(f"{len(right)} of {len(texts)} texts are to be dropped", flush=True)
        what = f"near duplicates among {arguments.rows:,} chat records, {len(right):,} by exact Jaccard"
        compare(
            [
                Goal("near_duplicates_recall", f"{what}: recall", "% recall", ">= 1", limit=99.5),
                Goal("near_duplicates_wrong", f"{what}: dropped rightly", "% right", ">= 1", limit=100),
            ],
            {
                "ours": lambda: judged(ours(raw), right, similar),
                "rensa": lambda: judged(theirs("rensa", folded_texts), right, similar),
                "datasketch": lambda: judged(theirs("datasketch", folded_texts), right, similar),
            },
            rounds=arguments.rounds,
            versions=[pin.replace("==", " ") for pin in PINS["minhash"]],
            note="Ours also reads, checks, splits and writes all records; the others get folded texts",
        )


if __name__ == "__main__":
    main()
