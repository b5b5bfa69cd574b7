"""The review page on many records: seconds to open them, seconds of each kind of request, and peak memory.

python -m tests.benchmarks.bench_review --records 20000 200000 --output tests/benchmarks/results/review.md
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.benchmarks.bench_dataset import ROOT, SYLLABLES

LIMIT = 1.0  # seconds of a request
VARIANTS = ("base", "q4_k_m")
METRICS = (
    "chrf",
    "rouge_l",
    "exact_match",
    "perplexity",
    "repetition",
    "length_mean",
    "exclamation_rate",
    "emoji_rate",
)
LABELS = ("but", "carton", "commentaire")
RARE = "étoilée"  # in one record of a thousand


def text_of(rng: random.Random, words: int) -> str:
    """Return random words; RARE is one of them in one text of a thousand."""
    found = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(words)]
    return " ".join([*found, RARE] if rng.random() < 0.001 else found)


def write_results(results: Path, records: int) -> None:
    """Write a run of two variants with so many answers of about 350 characters in all, their scores and test split."""
    rng = random.Random(records)
    (results / "datasets/bench").mkdir(parents=True)
    for kind in ("answers", "scores", "errors"):
        (results / "runs/bench" / kind).mkdir(parents=True)
    count = records // len(VARIANTS)
    system = {"role": "system", "content": text_of(rng, 60)}
    ids = [f"{number:016x}" for number in range(count)]
    with open(results / "datasets/bench/test.jsonl", "w", encoding="utf-8") as file:
        for number, name in enumerate(ids):
            asked, wanted = {"role": "user", "content": text_of(rng, 15)}, text_of(rng, 50)
            row = {
                "id": name,
                "messages": [system, asked, {"role": "assistant", "content": wanted}],
                "expected": wanted,
            }
            more = {"spans": None, "label": rng.choice(LABELS), "group": None, "meta": {}, "origin": f"raw:{number}"}
            file.write(json.dumps(row | more, ensure_ascii=False) + "\n")
    for variant in VARIANTS:
        with (
            open(results / "datasets/bench/test.jsonl", encoding="utf-8") as split,
            open(results / f"runs/bench/answers/{variant}.jsonl", "w", encoding="utf-8") as answers,
            open(results / f"runs/bench/errors/{variant}.jsonl", "w", encoding="utf-8") as errors,
        ):
            for line in split:
                row = json.loads(line)
                prompt = {"prompt_set": "test", "id": row["id"], "messages": row["messages"][:2]}
                words = row["expected"].split()
                answer = " ".join(rng.choice(words) if rng.random() < 0.2 else word for word in words)
                more = {"expected": row["expected"], "label": row["label"], "answer": answer, "stop": "end"}
                answers.write(json.dumps(prompt | more, ensure_ascii=False) + "\n")
                if rng.random() < 0.3:
                    errors.write(json.dumps({"id": row["id"], "prompt_set": "test"}) + "\n")
        values = {metric: [round(rng.random(), 8) for _ in ids] for metric in METRICS}
        statistics = {metric: [[value, 1, 2, 3] for value in found] for metric, found in values.items()}
        scores = {"language": "fr", "own_metrics": {}, "ids": ids, "per_record": values, "statistics": statistics}
        lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in {**scores, "prompt_sets": {}}.items()]
        (results / f"runs/bench/scores/{variant}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def requests_of(records: int) -> dict[str, str]:
    """Return the address of each kind of request."""
    run, last = {"collection": "run/bench"}, {"offset": records - 50}
    everything = {"label": "but", "variant": "base", "errors": 1, "q": "ba", "sort": "chrf"}
    kinds = {
        "collections": ("collections", {}),
        "first page": ("records", run),
        "last page": ("records", run | last),
        "filter: label": ("records", run | {"label": "but"}),
        "filter: variant": ("records", run | {"variant": "q4_k_m"}),
        "filter: errors only": ("records", run | {"errors": 1}),
        "sort by a score": ("records", run | {"sort": "chrf"}),
        "sort by a score, descending, last page": ("records", run | last | {"sort": "rouge_l", "order": "desc"}),
        "full text: a rare word": ("records", run | {"q": RARE}),
        "full text: the same without accents": ("records", run | {"q": "etoilee"}),
        "full text: a word of most records": ("records", run | {"q": "ba"}),
        "full text: the beginning of most words": ("records", run | {"q": "b* m*"}),
        "full text: words in quotes": ("records", run | {"q": '"ba ri"'}),
        "all filters, sorted": ("records", run | everything),
        "record": ("record", run | {"key": records // 3}),
        "record with all filters": ("record", run | everything | {"key": records // 3}),
        "record by its link": ("record", run | {"id": f"{records // 4:016x}", "id_variant": "base", "id_set": "test"}),
    }
    return {kind: f"/api/{name}?{urlencode(query)}" for kind, (name, query) in kinds.items()}


def seconds_of(address: str) -> float:
    """Return the seconds of a request."""
    started = time.monotonic()
    with urlopen(address) as reply:
        reply.read()
    return time.monotonic() - started


def measure(records: int, folder: Path) -> tuple[float, float, float, dict[str, tuple[float, float]]]:
    """Serve so many records; return seconds to open, MiB of peak memory and of the index, and seconds of the requests.

    Of each request it is the first time and the median of the next five.
    """
    write_results(folder / "results", records)
    (folder / "tmp").mkdir()
    command = [sys.executable, str(ROOT / "scripts/review/serve.py"), "results", "--port", "0"]
    environment = {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}
    started = time.monotonic()
    server = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://[\d.:]+", server.stdout.readline())[0]
        opened = time.monotonic() - started
        found = {}
        for kind, path in requests_of(records).items():
            first, *more = [seconds_of(address + path) for _ in range(6)]
            found[kind] = first, sorted(more)[2]
        index = sum(path.stat().st_size for path in (folder / "tmp").rglob("*.sqlite")) / 2**20
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        return opened, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024, index, found
    finally:
        server.terminate()
        server.wait()


def result_page(results: dict[int, tuple[float, float, float, dict[str, tuple[float, float]]]]) -> str:
    """Return the results as a Markdown page."""
    small, large = min(results), max(results)
    lines = [
        "# The review page on many records",
        "",
        f"Made by `python -m tests.benchmarks.bench_review --records {' '.join(map(str, results))}`:",
        "answers of two variants (250 characters, 500 of prompt, eight scores each), and the test split they answer",
        "on top. Peak memory is the resident set of the server, libraries included.",
        "",
        "| records | s to open | records/s | index MiB | peak MiB |",
        "|---:|---:|---:|---:|---:|",
    ]
    for records, (opened, peak, index, _) in results.items():
        lines.append(f"| {records} | {opened:.1f} | {records / opened:.0f} | {index:.0f} | {peak:.0f} |")
    added = (results[large][1] - results[small][1]) * 2**20 / max(large - small, 1)
    slowest = max(first for first, _ in results[large][3].values())
    lines += [
        "",
        f"From {small} to {large} records, {max(added, 0):.0f} bytes of memory a further record.",
        f"The slowest request on {large} records: {slowest:.2f} s, {slowest / LIMIT:.2f} of the limit ({LIMIT:.0f} s).",
        "",
        f"| request, on {large} records | s, first time | of the limit | s, again |",
        "|---|---:|---:|---:|",
    ]
    for kind, (first, again) in results[large][3].items():
        lines.append(f"| {kind} | {first:.3f} | {first / LIMIT:.2f} | {again:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, nargs="+", default=[20_000, 200_000], help="sizes")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    results = {}
    for records in arguments.records:
        with tempfile.TemporaryDirectory(prefix="snaketune-") as folder:
            results[records] = measure(records, Path(folder))
    page = result_page(results)
    print(page)
    if arguments.output:
        arguments.output.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
