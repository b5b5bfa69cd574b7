"""Hidden states of a frozen backbone at the labelled tokens: computed in each epoch, or once and cached on disk.

The hidden states of a layer are the backbone's output if it ended there: the layer's output after the final norm.

A frozen backbone without dropout gives the same hidden states in every epoch. On a CPU each row is a batch of its own,
so that a row's states are bit-identical, cached or not, whichever rows are requested; on a GPU rows are batched, and
the last bits depend on the batch.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from scripts.common.chat import IGNORED
from scripts.common.checksums import intact
from scripts.common.cli import Progress, progress
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.train.padding import pad_batch

GPU_TOKENS = 4096  # tokens of a forward pass on a GPU: enough to use it fully with a model of 7 billion weights
DISK_SHARE = 0.9  # share of the free disk that a cache may use
FLUSH_SECONDS = 30


class Rows:
    """A split's rows: token ids, labels, and positions of the labelled tokens."""

    def __init__(self, path: Path):
        import pyarrow

        with pyarrow.memory_map(str(intact(path))) as file:
            table = pyarrow.ipc.open_stream(file).read_all()
        self.ids: list[list[int]] = table["input_ids"].to_pylist()
        self.labels: list[torch.Tensor] = []
        self.positions: list[torch.Tensor] = []
        for row in table["labels"].to_pylist():
            labels = torch.tensor(row)
            positions = (labels != IGNORED).nonzero()[:, 0]
            self.positions.append(positions)
            self.labels.append(labels[positions])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict:
        return {"number": number, "labels": self.labels[number]}

    @property
    def tokens(self) -> int:
        """The number of labelled tokens."""
        return sum(len(labels) for labels in self.labels)

    def by_length(self, numbers: Iterable[int]) -> list[int]:
        """Return row numbers sorted by length, longest first."""
        return sorted(numbers, key=lambda number: (-len(self.ids[number]), number))

    def counts(self, classes: int) -> list[int]:
        """Return the number of labelled tokens of each class."""
        total = torch.zeros(classes, dtype=torch.long)
        for labels in self.labels:
            total += torch.bincount(labels, minlength=classes)
        return total.tolist()


class LiveFeatures:
    """Hidden states computed by the backbone at each request.

    `depths` are the requested layers, counted from 1; the backbone ends at the last one.
    """

    def __init__(self, backbone, rows: Rows, pad_id: int, attempt: int = 1, depths: Sequence[int] = ()):
        self.backbone, self.rows, self.pad_id = backbone, rows, pad_id
        self.inner = list(depths[:-1])
        self.device = next(backbone.parameters()).device
        self.limit = max(GPU_TOKENS >> (attempt - 1), 1)

    def batches(self, numbers: list[int]) -> list[list[int]]:
        """Return the rows of each forward pass, longest first; each further attempt halves those on a GPU."""
        result: list[list[int]] = []
        for number in self.rows.by_length(numbers):
            longest = len(self.rows.ids[result[-1][0]]) if result else 0
            if not result or self.device.type == "cpu" or longest * (len(result[-1]) + 1) > self.limit:
                result.append([])
            result[-1].append(number)
        return result

    def forward(self, batch: list[int]) -> list[torch.Tensor]:
        """Return the states [depths, labelled tokens, hidden] of each row, in the backbone's number format."""
        rows = [
            {"input_ids": self.rows.ids[number], "labels": [IGNORED] * len(self.rows.ids[number])} for number in batch
        ]
        inputs = pad_batch(rows, self.pad_id)
        with torch.inference_mode():
            found = self.backbone(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
                use_cache=False,
                output_hidden_states=self.inner or False,
            )
            states = [
                *(self.backbone.norm(found.hidden_states[depth]) for depth in self.inner),
                found.last_hidden_state,
            ]
        places = [self.rows.positions[number].to(self.device) for number in batch]
        return [torch.stack([state[row, place] for state in states]) for row, place in enumerate(places)]

    def __call__(self, numbers: list[int]) -> torch.Tensor:
        """Return the last depth's states [labelled tokens, hidden] of rows one after another."""
        found = {}
        for batch in self.batches(sorted(set(numbers))):
            found.update(zip(batch, (states[-1] for states in self.forward(batch)), strict=True))
        return torch.cat([found[number] for number in numbers])


class SplitCache:
    """A split's hidden states on disk: rows by length, and within a row depth by depth; `hidden` is their size.

    A JSON file beside it records how many rows have been written to disk, and the seconds that this took.
    """

    def __init__(self, folder: Path, split: str, rows: Rows, hidden: int, dtype: torch.dtype, depths: int):
        self.split, self.rows, self.hidden, self.dtype, self.depths = split, rows, hidden, dtype, depths
        self.path, self.record = folder / f"{split}.bin", folder / f"{split}.json"
        self.order = rows.by_length(range(len(rows)))

    def size(self, rows: int) -> int:
        """Return the size in bytes of the first rows: labelled tokens x hidden size x bytes of a number x depths."""
        tokens = sum(len(self.rows.labels[number]) for number in self.order[:rows])
        return tokens * self.hidden * self.dtype.itemsize * self.depths

    def done(self) -> dict:
        """Return the rows that are cached and the seconds that they took; nothing if the file system lost states."""
        if self.record.is_file() and self.path.is_file():
            done = read_json(self.record)
            if self.path.stat().st_size >= self.size(done["rows"]):
                return done
        return {"rows": 0, "seconds": 0.0}

    def is_filled(self) -> bool:
        """Return whether all hidden states of the split are cached."""
        return self.done()["rows"] == len(self.rows)

    def fill(self, live: LiveFeatures, stopped: Callable[[], bool]) -> None:
        """Write the hidden states, continuing an interrupted pass; they are flushed every half minute.

        Raises UserError when asked to stop.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        done = self.done()
        rows, started, flushed = done["rows"], time.monotonic(), time.monotonic()
        bar = Progress(f"hidden states {self.split}", len(self.order), rows)
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.size(rows))
            file.seek(self.size(rows))

            def flush() -> None:
                file.flush()
                os.fsync(file.fileno())
                seconds = round(done["seconds"] + time.monotonic() - started, 3)
                write_json(self.record, {"rows": rows, "seconds": seconds})

            for batch in live.batches(self.order[rows:]):
                for states in live.forward(batch):
                    file.write(states.to(self.dtype).contiguous().view(torch.uint8).cpu().numpy().data)
                rows += len(batch)
                bar.advance(len(batch))
                if stopped():
                    flush()
                    raise UserError(
                        f"stopped after {rows} of {len(self.order)} rows of {self.split}",
                        remedy="the hidden states so far are kept; run again to continue",
                    )
                if time.monotonic() - flushed >= FLUSH_SECONDS:
                    flush()
                    flushed = time.monotonic()
            flush()

    def source(self, place: int, device: str) -> Callable[[list[int]], torch.Tensor]:
        """Return the function from row numbers to their states [labelled tokens, hidden] of the depth at a place."""
        spans, size = {}, 0
        for number in self.order:
            one = len(self.rows.labels[number]) * self.hidden
            spans[number] = slice(size + place * one, size + (place + 1) * one)
            size += self.depths * one
        values = torch.from_file(str(self.path), shared=False, size=size, dtype=self.dtype) if size else None
        return lambda numbers: torch.cat([values[spans[n]] for n in numbers]).view(-1, self.hidden).to(device)


def standardized(
    source: Callable[[list[int]], torch.Tensor], statistics: torch.Tensor
) -> Callable[[list[int]], torch.Tensor]:
    """Return a function like `source` that returns standardized states: (states - mean) / deviation.

    `statistics` has mean and deviation over the training split [2, hidden] in float32.
    """

    def features(numbers: list[int]) -> torch.Tensor:
        """Return the standardized states [labelled tokens, hidden] of rows one after another, in float32."""
        states = source(numbers).float()  # a tensor of its own: the source joins those of the rows
        mean, deviation = statistics.to(states.device)
        return states.sub_(mean).div_(deviation)

    return features


def feature_statistics(source: Callable[[list[int]], torch.Tensor], rows: Rows) -> torch.Tensor:
    """Return mean and deviation [2, hidden] of the features over all labelled tokens; for a constant feature the
    deviation is 1. Sums are in float64, row by row, so that cached and live states give the same.
    """
    total, squares = 0.0, 0.0
    for number in progress(rows.by_length(range(len(rows))), "feature statistics", len(rows)):
        states = source([number]).double()
        total, squares = total + states.sum(0), squares + states.square().sum(0)
    mean = total / max(rows.tokens, 1)
    deviation = (squares / max(rows.tokens, 1) - mean.square()).clamp(min=0).sqrt()
    return torch.stack([mean, torch.where(deviation > 1e-6, deviation, 1.0)]).float().cpu()


def fold_statistics(head: torch.nn.Linear, statistics: torch.Tensor) -> None:
    """Convert a head for standardized features to a head for the original features with the same logits."""
    with torch.no_grad():
        mean, deviation = statistics.double().to(head.weight.device)
        weight = head.weight.double() / deviation
        head.bias.copy_(head.bias.double() - weight @ mean)
        head.weight.copy_(weight)


def cache_decision(setting: str, needed: int, max_gb: float, free: int) -> tuple[bool, str]:
    """Return whether to cache the hidden states, and why; sizes in bytes, `free` is the free disk space.

    Raises UserError if they must be cached (`always`) and the disk has too little space.
    """
    size = f"{needed / 2**30:.2f} GiB"
    fits_disk = needed <= DISK_SHARE * free
    if setting == "never":
        return False, f"head.cache is 'never'; {size} would be needed"
    if setting == "always":
        if not fits_disk:
            raise UserError(
                f"the hidden states need {size} of disk, {free / 2**30:.2f} GiB are free",
                remedy="set head.cache to 'auto' or 'never', or free disk space",
            )
        return True, f"{size}; head.cache is 'always'"
    if needed > max_gb * 2**30:
        return False, f"{size} are more than head.max_cache_gb {max_gb:g}"
    if not fits_disk:
        return False, f"{size} are more than {DISK_SHARE:.0%} of the free disk, {free / 2**30:.2f} GiB"
    return True, f"{size} of {free / 2**30:.2f} GiB free disk"


def free_disk(folder: Path) -> int:
    """Return the free bytes on the disk of a folder; the folder's own files count as free."""
    own = sum(path.stat().st_size for path in folder.glob("*")) if folder.is_dir() else 0
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(existing).free + own
