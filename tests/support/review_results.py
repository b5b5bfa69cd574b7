"""Small results of captions, entities and images, and a hostile file, served as the review page sees them."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from scripts.review.app import create_app
from scripts.review.serve import listening
from tests.support.data import load
from tests.support.entity_answers import text_row
from tests.support.project import ROOT
from tests.support.score_fixtures import judge_run, write_rows

SYSTEM = "You write captions for the loudest fan in the stadium. " * 8
IMAGE = ROOT / "data/titles/documents/en-report-1.png"
BLANK = {"spans": None, "label": None, "group": None, "meta": {}}
# What would run, or change the page, if the text of a record were markup or an address.
PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "javascript:alert(3)",
    "<svg/onload=alert(4)>",
    "</textarea></title><iframe srcdoc='<script>parent.alert(5)</script>'></iframe>",
    "<base href=//example.org><style>*{display:none}</style><b id=view name=reader>",
)
ASTRAL = "😀 <b>Ann</b> met Bob in Huế 🎉"


def record(index: int, messages: list[dict], expected: str, **fields) -> dict:
    """Return a record of a split."""
    answer = {"role": "assistant", "content": expected}
    facts = BLANK | {"origin": f"raw.jsonl:{index + 1}", **fields}
    return {"id": f"{index:016x}", "messages": [*messages, answer], "expected": expected, **facts}


def write_results(results: Path) -> Path:
    """Write datasets `captions`, `pages` (an image) and `pii`, and runs with the scores of their answers."""
    data = load("review.yaml")
    captions = data["captions"]
    prompts = [[{"role": "user", "content": row["question"]}] for row in captions]
    prompts[0].insert(0, {"role": "system", "content": SYSTEM})
    records = [record(n, prompts[n], row["expected"], label=row["sport"]) for n, row in enumerate(captions)]
    write_rows(results / "datasets/captions/test.jsonl", records)
    bad = {"origin": "raw.jsonl:99", "reason": "the answer is empty", "record": {"question": "?", "answer": ""}}
    write_rows(results / "datasets/captions/quarantine.jsonl", [bad])
    facts = {"prompt_set": "test", "stop": "end", "seconds": 0.5, "tokens": 20}
    answers = {
        variant: [
            {**facts, "id": f"{n:016x}", "messages": prompts[n], "expected": row["expected"], "label": row["sport"]}
            | {"answer": row[variant]}
            for n, row in enumerate(captions)
        ]
        for variant in ("base", "q4_k_m")
    }
    judge_run(results, "captions", "en", answers)

    rows = [
        text_row(row["text"], row["spans"], row["found"], id=f"{n:016x}", label=row["label"])
        for n, row in enumerate(data["entities"])
    ]
    records = [
        record(n, row["messages"], row["expected"], **{name: row[name] for name in ("spans", "label")})
        for n, row in enumerate(rows)
    ]
    write_rows(results / "datasets/pii/test.jsonl", records)
    judge_run(results, "pii", None, {"merged": rows})

    images = results / "datasets/pages/images"
    images.mkdir(parents=True)
    shutil.copy(IMAGE, images / "page.png")
    content = [{"type": "image", "image": "images/page.png"}, {"type": "text", "text": "What is the title?"}]
    page = record(0, [{"role": "user", "content": content}], "Water Quality in Three Mountain Lakes")
    write_rows(results / "datasets/pages/test.jsonl", [page])
    return results


def write_hostile(path: Path) -> Path:
    """Write a file of another tool with PAYLOADS in every field, and a text with entities after an emoji."""
    rows = [
        {
            **dict.fromkeys(("label", "variant", "group", "origin"), text),
            "id": f"{text}/{n}?#%2e",
            "meta": {text: text, "__proto__": text},
            "messages": [
                {"role": "system", "content": text * 20},
                {"role": text, "content": [{"type": "image", "image": text}, {"type": "text", "text": text}]},
            ],
            "expected": f"{text} wanted",
            "actual": f"{text} given",
        }
        for n, text in enumerate(PAYLOADS)
    ]
    spans = [[5, 8, "<i>P</i>"], [17, 20, "PERSON"]]
    rows.append(text_row(ASTRAL, spans, [[5, 8, "<i>P</i>"], [13, 20, "PERSON"]], id="spans"))
    return write_rows(path, rows)


@contextmanager
def served(paths: list[Path], folder: Path) -> Iterator[str]:
    """Serve the review page on a free port, with judgements in `folder`; give its address."""
    with listening("127.0.0.1", 0) as socket:
        app = create_app(paths, folder)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
