"""Tokenize the splits' conversations to exactly the rows that the trainer gets, with a ledger of them.

python scripts/train/tokenize_conversations.py results/datasets/football --base results/models/embedded/manifest.json \
    --folder results/runs/football/tokens --settings '{"tokens": {"max_length": 512, ...}}'
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow

from scripts.common.base_model import leave_torch_out, load_tokenizer
from scripts.common.chat import IGNORED, AnswerTokenizer, Conversation, RenderedConversation
from scripts.common.checksums import intact
from scripts.common.cli import Progress, log, progress, step_main, step_parser
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, parse_jsonl, read_json, read_jsonl, write_json
from scripts.common.html import image_names, thumbnail, write_page
from scripts.common.pool import in_order
from scripts.common.records import SPLITS, Record, images_of, text_of
from scripts.common.vision import VisionTokenizer, vision_tokenizer
from scripts.tasks import task_of
from scripts.train.row_files import COLUMNS, VISION_COLUMNS, record_batch, write_batches
from scripts.train.row_ledger import PREVIEWS, SplitLedger, check_limits, identity

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py
BLOCK = 1_000_000  # characters, at most or so, of records that are rendered, encoded or sent to a process at once
RECORDS = 256  # records of a block
MANY = 5_000  # records for which starting processes takes less time than it saves
LONGEST = 160  # pixels of a thumbnail's longer side
PROBLEMS = {  # on the page
    "image_cut": "left out, because max_length ends before their images do",
    "truncated": "longer than max_length",
    "untrained": "left out, because nothing in them is trained on",
    "shifted": "shifted: the prompt alone has other tokens than at the start of the conversation",
    "unended": "without an end token in their answer",
}
IMAGE_COUNTS = ("images", "image_tokens", "text_tokens", "most_image_tokens")


class LineBlock(NamedTuple):
    """Lines of a split's file; `first` is the number of the first one, counted from 1."""

    split: str
    path: Path
    first: int
    lines: list[str]


def preview(tokenizer, record: Record, row: Conversation) -> dict:
    """Return a row's tokens as runs of trained and untrained text, for display."""
    runs, start = [], 0
    for trained, part in itertools.groupby(row.trained.tolist()):
        tokens = len(list(part))
        text = tokenizer.decode(row.ids[start : start + tokens], skip_special_tokens=False)
        text = tokenizer.shortened(text) if isinstance(tokenizer, VisionTokenizer) else text
        runs.append({"text": text, "trained": trained, "tokens": tokens})
        start += tokens
    return {"id": record.id, "place": identity(record)[1], "images": images_of(record.messages), "runs": runs}


def groups_of(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Yield records that are rendered and encoded at once: all of a block, or fewer if their renderings are long."""
    group, characters = [], 0
    for record in records:
        group.append(record)
        # A conversation is rendered once as a whole, and about twice for each of its answers.
        characters += len(record.messages) * sum(len(text_of(message["content"])) for message in record.messages)
        if characters >= BLOCK:
            yield group
            group, characters = [], 0
    if group:
        yield group


def rendered(answers: AnswerTokenizer, records: list[Record]) -> list[RenderedConversation]:
    """Render the conversations of records; UserError names the record that the template refuses."""
    try:
        return answers.render([record.messages for record in records])
    except UserError as error:
        if len(records) > 1:
            return [rendered(answers, [record])[0] for record in records]
        raise UserError(f"record {records[0].id}: {error}", records[0].origin) from None


@dataclass
class RowMaker:
    """Makes the rows of blocks of records. It loads its tokenizer at its first call, in the process that calls it.

    `settings` is `tokens` of the configuration. For vision, records find their images in the folder `images`, and
    `longest_edge` is that of the configuration. `without_torch` makes the import of a text tokenizer faster.
    """

    base: Path
    settings: dict
    images: Path | None = None
    longest_edge: int | None = None
    without_torch: bool = False

    @cached_property
    def answers(self) -> AnswerTokenizer:
        """The tokenizer."""
        if self.images:
            tokenizer = vision_tokenizer(self.base, self.images, {"vision": {"longest_edge": self.longest_edge}})
        else:
            if self.without_torch:
                leave_torch_out(self.base)
            tokenizer = load_tokenizer(self.base)
        return AnswerTokenizer(tokenizer, self.settings["train_on"] == "last_assistant_turn")

    def __call__(self, block: LineBlock) -> tuple[str, pyarrow.RecordBatch, SplitLedger]:
        """Return the split of a block, its rows, and the ledger of these rows."""
        ledger = self.new_ledger()
        batch = record_batch(list(self.rows(block, ledger)), self.columns)
        return block.split, batch, ledger

    @property
    def columns(self) -> dict:
        """The columns of the rows and their Arrow types."""
        return VISION_COLUMNS if self.images else COLUMNS

    def new_ledger(self) -> SplitLedger:
        """Return a ledger without rows."""
        return SplitLedger(vision=Counter(dict.fromkeys(IMAGE_COUNTS, 0)) if self.images else None)

    def conversations(self, block: LineBlock) -> Iterator[tuple[Record, Conversation]]:
        """Yield each record of a block with its tokens."""
        records = map(Record.from_row, parse_jsonl(block.lines, block.path, block.first))
        for group in groups_of(records):
            yield from zip(group, self.answers.encode(rendered(self.answers, group)), strict=True)

    def rows(self, block: LineBlock, ledger: SplitLedger) -> Iterator[dict]:
        """Yield rows {id, input_ids, labels}, for vision also `images`, and update the ledger.

        A row is left out if truncation would cut its images.
        """
        tokenizer, limit = self.answers.tokenizer, self.settings["max_length"]
        image_ids = tokenizer.image_ids if self.images else frozenset()
        for record, row in self.conversations(block):
            ledger.rows += 1
            if row.shifted:
                ledger.problems["shifted"].append(identity(record))
            if len(row.ids) > limit:
                ledger.problems["truncated"].append(identity(record))
                ledger.longest = max(ledger.longest, len(row.ids))
                cuts_image = not image_ids.isdisjoint(row.ids[limit:])
                if cuts_image:
                    ledger.problems["image_cut"].append(identity(record))
                if self.settings["truncation"] == "drop" or cuts_image:
                    continue
                row = Conversation(row.ids[:limit], row.trained[:limit], row.shifted)
            elif not row.trained.any() or row.ids[np.flatnonzero(row.trained)[-1]] not in self.answers.end_ids:
                ledger.problems["unended"].append(identity(record))
            if not row.trained.any():
                ledger.problems["untrained"].append(identity(record))
                continue
            ids = np.array(row.ids, np.int32)
            ledger.kept += 1
            ledger.lengths.append(len(ids))
            ledger.trained_tokens += int(row.trained.sum())
            if len(ledger.previews) < PREVIEWS:
                ledger.previews.append(preview(tokenizer, record, row))
            columns = {"id": record.id, "input_ids": ids, "labels": np.where(row.trained, ids, np.int32(IGNORED))}
            if ledger.vision is not None:
                columns["images"], tokens = images_of(record.messages), sum(token in image_ids for token in row.ids)
                ledger.count_images(len(columns["images"]), tokens, len(row.ids) - tokens)
            yield columns


def blocks_of(split: str, path: Path) -> Iterator[LineBlock]:
    """Yield the lines of a split's file in blocks of up to RECORDS lines and about BLOCK characters; at least one."""
    first, lines, characters = 1, [], 0
    with open(intact(path), encoding="utf-8") as file:
        for line in file:
            lines.append(line)
            characters += len(line)
            if len(lines) == RECORDS or characters >= BLOCK:
                yield LineBlock(split, path, first, lines)
                first, lines, characters = first + len(lines), [], 0
    if lines or first == 1:
        yield LineBlock(split, path, first, lines)


def records_of(path: Path, what: str) -> Iterator[Record]:
    """Yield the records of a split, with a progress bar."""
    return (Record.from_row(row) for row in progress(read_jsonl(path), what, lines_of(path)))


def lines_of(path: Path) -> int:
    """Return the number of lines of a file."""
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def counted(
    ledger: SplitLedger, made: Iterator[tuple[str, pyarrow.RecordBatch, SplitLedger]], bar: Progress
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the batches of a split that have rows; add up their ledgers."""
    for _, batch, part in made:
        ledger.add(part)
        bar.advance(part.rows)
        if batch.num_rows:
            yield batch


def tokenize_dataset(
    dataset: Path,
    base: Path,
    folder: Path,
    settings: dict,
    images: Path | None = None,
    longest_edge: int | None = None,
    processes: int = 1,
    without_torch: bool = False,
) -> dict:
    """Tokenize the three splits of a dataset's folder with the base model's tokenizer; return the ledger.

    Many records are shared by `processes`. The other arguments are those of `RowMaker`.
    """
    manifest, ledgers = check_manifest(base, hashes=False), {}
    maker = RowMaker(base, settings, images, longest_edge, without_torch)
    counts = {split: lines_of(dataset / f"{split}.jsonl") for split in SPLITS}
    if sum(counts.values()) < MANY or manifest.get("trust_remote_code", False):  # transformers copies its files
        processes = 1
    blocks = (block for split in SPLITS for block in blocks_of(split, dataset / f"{split}.jsonl"))
    for split, made in itertools.groupby(in_order(maker, blocks, processes), itemgetter(0)):
        ledger = ledgers[split] = maker.new_ledger()
        batches = counted(ledger, made, Progress(f"tokenize {split}", counts[split]))
        write_batches(folder / f"{split}.arrow", batches, maker.columns)
        log.info("%s: %d of %d rows kept, %d tokens", split, ledger.kept, ledger.rows, sum(ledger.lengths))
    check_limits(ledgers, settings, dataset)
    longest = max((length for ledger in ledgers.values() for length in ledger.lengths), default=0)
    config = read_json(base.parent / "config.json")
    positions = config.get("text_config", config).get("max_position_embeddings") or longest
    if longest > positions:
        raise UserError(
            f"the longest row has {longest} tokens, the model {manifest['name']} takes {positions}",
            dataset,
            remedy=f"set tokens.max_length to {positions} or less",
        )
    if not ledgers["train"].kept:
        raise UserError("no row is left to train on", dataset / "train.jsonl")
    return {
        "model": manifest["name"],
        "settings": settings,
        "splits": {split: ledger.summary() for split, ledger in ledgers.items()},
        "previews": ledgers["train"].previews,
    }


def step(arguments) -> None:
    """Run the step."""
    folder, settings = arguments.folder, arguments.settings
    reads_images, images = task_of(settings).reads_images, arguments.images or arguments.dataset
    os.environ["RAYON_NUM_THREADS"] = "1"  # of the tokenizers library: each process uses one thread
    vision = {"images": images, "longest_edge": settings["vision"]["longest_edge"]} if reads_images else {}
    files, options = (arguments.dataset, arguments.base, folder), {"without_torch": __name__ == "__main__", **vision}
    ledger = tokenize_dataset(*files, settings["tokens"], processes=arguments.threads, **options)
    names = image_names(images)
    pictures = {
        path: {"name": names.get(path, path), "source": thumbnail(images / path, LONGEST)}
        for each in ledger["previews"]
        for path in each["images"]
    }
    pages = Path(__file__).parent / "pages"
    write_page(folder / "ledger.html", "tokens.html", pages, ledger=ledger, pictures=pictures, problems=PROBLEMS)
    write_json(folder / "ledger.json", ledger)


def tokenize_parser(description: str, files: str):
    """Return the command line of a step that tokenizes; `files` says what it writes into its folder."""
    result = step_parser(description)
    result.add_argument("dataset", type=Path, help="dataset folder with train.jsonl, validation.jsonl and test.jsonl")
    result.add_argument("--base", type=Path, required=True, help="manifest.json of the base model")
    result.add_argument("--folder", type=Path, required=True, help=f"folder for {files}")
    result.add_argument("--threads", type=int, default=2, help="processes for many records")
    return result


def parser():
    """Return the step's command line."""
    result = tokenize_parser(__doc__.splitlines()[0], "the Arrow files and the ledger")
    result.add_argument("--images", type=Path, help="folder where records find their images (default: the dataset's)")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
