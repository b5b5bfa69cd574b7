"""Export what people judged to files that the workflow reads: python scripts/review/exports.py --folder review

`votes.jsonl` is an input of the score stage, `corrections.jsonl` of the dataset stage; `preferences.jsonl` has pairs
for preference tuning in TRL's conversational format. The same judgements give the same bytes.
"""

import argparse
import json
import sys
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import write_text
from scripts.review.corrections import accepted
from scripts.review.judgements import NAME, Judgements
from scripts.review.results import majorities, of_people

# The columns of votes.jsonl, all of them in the interface with the score stage (scripts/score/votes.py).
SHARED = ("kind", "study", "reader", "is_model", "at", "repeat", "record", "run", "variant", "hash")
COLUMNS = {
    "rating": (*SHARED, "passed", "stars", "comment"),
    "pair": (*SHARED, "against", "against_hash", "won"),
    "human_test": (*SHARED, "said_person", "by_person"),
}


def export(folder: Path) -> list[dict]:
    """Write the files of a folder of judgements; return `path` and `rows` of each.

    A file without rows is not made, and one with the same bytes is left as it is, because the steps that it is an
    input of would run again.
    """
    store = Judgements(folder)
    votes = store.votes()
    rows = {
        "votes.jsonl": [{name: vote[name] for name in COLUMNS[vote["kind"]]} for vote in votes],
        "corrections.jsonl": accepted(folder),
        "preferences.jsonl": preferences(store, votes),
    }
    files = []
    for name, found in rows.items():
        if not found and not (folder / name).exists():
            continue
        lines = sorted(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        text, path = "".join(lines), folder / name
        if not path.exists() or path.read_bytes() != text.encode():
            write_text(path, text, part=True)
        files.append({"path": str(path), "rows": len(found)})
    return files


def preferences(store: Judgements, votes: list[dict]) -> list[dict]:
    """Return a row for each pair of texts of which most people prefer one; repeats do not count.

    The format is TRL's: a conversational preference dataset with an explicit prompt. The column `split` says that the
    prompts are of the test split, so that nobody trains on them by accident.
    """
    pairs = [vote for vote in of_people(votes) if vote["kind"] == "pair"]
    won, rows = majorities(pairs, "won"), []
    for study in dict.fromkeys(vote["study"] for vote in pairs):
        for item in store.items(study):
            if won.get(item["item"]) in (0.0, 1.0):
                first, second = ([{"role": "assistant", "content": text}] for text in item["texts"])
                chosen, rejected = (first, second) if won[item["item"]] else (second, first)
                rows.append({"prompt": item["messages"], "chosen": chosen, "rejected": rejected, "split": "test"})
    return rows


def main(argv=None) -> int:
    """Write the files, and print how many rows each has; return 1, with one line, if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("review"), help="folder of judgements (default: review)")
    folder = parser.parse_args(argv).folder
    try:
        if not (folder / NAME).is_file():
            raise UserError("does not exist yet", folder / NAME, remedy="judge with `make review`")
        for file in export(folder):
            print(f"{file['path']}: {file['rows']} rows")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
