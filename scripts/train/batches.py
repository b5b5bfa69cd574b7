"""Make batches: order of rows per epoch, grouping by length, packing, and collation."""

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from scripts.common.chat import IGNORED
from scripts.common.checksums import intact
from scripts.train.padding import pad_batch


class EpochSampler(torch.utils.data.Sampler):
    """Row numbers of an epoch in an order that depends only on seed and epoch, so that a resumed run sees the same.

    With `group` rows, chunks of 50 groups of shuffled rows are sorted by length, the longest row first, as in
    transformers' LengthGroupedSampler, whose order is lost on resume. `multiple` is the number of rows that all
    processes take at once; see `filled`.
    """

    def __init__(self, lengths: list[int], seed: int, group: int | None = None, multiple: int = 1):
        self.lengths, self.seed, self.group, self.multiple, self.epoch = lengths, seed, group, multiple, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.multiple) * self.multiple

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        if self.group:
            stretch = min(self.group * 50, max(len(order) // 4, 1)) // self.group * self.group or self.group
            parts = [order[i : i + stretch] for i in range(0, len(order), stretch)]
            order = [row for part in parts for row in sorted(part, key=self.lengths.__getitem__, reverse=True)]
            longest = max(range(len(order)), key=lambda place: self.lengths[order[place]])
            order[0], order[longest] = order[longest], order[0]
        return iter(filled(order, self.multiple))


def filled(order: list[int], multiple: int) -> list[int]:
    """Pad row numbers to a multiple with the number of the last row, which has no labels.

    accelerate distributes batches to processes in turn: each gets the same number, and no row is repeated.
    """
    return order + [len(order)] * (-len(order) % multiple)


def with_blank_row(rows):
    """Return a dataset's rows followed by a row of two tokens without labels, which does not affect training."""
    from datasets import Dataset, concatenate_datasets

    columns = {name: [[]] for name in rows.column_names}
    columns |= {"input_ids": [rows[0]["input_ids"][:1] * 2], "labels": [[IGNORED] * 2]}
    if "seq_lengths" in columns:
        columns["seq_lengths"] = [[2]]
    return concatenate_datasets([rows, Dataset.from_dict(columns, features=rows.features)])


def load_rows(tokens: Path, split: str):
    """Return a split's rows as a memory-mapped `datasets.Dataset`; raises UserError if the file has changed."""
    from datasets import Dataset

    return Dataset.from_file(str(intact(tokens / f"{split}.arrow"))).remove_columns("id")


def longest_row(rows) -> int:
    """Return the number of tokens of the longest of a dataset's rows, 0 if there are none."""
    from pyarrow import compute

    return compute.max(compute.list_value_length(rows.data.column("input_ids"))).as_py() or 0


def pack_rows(rows, capacity: int, file: Path, made: bool = False):
    """Return a dataset of rows {input_ids, labels, seq_lengths} of at most `capacity` tokens, each of whole examples.

    TRL's best-fit decreasing (https://huggingface.co/papers/2404.10830), over 10,000 examples at a time, so that memory
    stays bounded. The rows are written to `file`, or only read if another process has `made` it.
    """
    from trl import pack_dataset

    file.parent.mkdir(parents=True, exist_ok=True)
    options = {"batch_size": 10_000, "cache_file_name": str(file), "load_from_cache_file": made}
    return pack_dataset(rows.select_columns(["input_ids", "labels"]), capacity, "bfd", options)


def without_blank_rows(rows: list[dict], collate: Callable) -> dict[str, torch.Tensor]:
    """Collate rows; those without labels are removed if there are others, because a single process has none."""
    trained = [row for row in rows if any(label != IGNORED for label in row["labels"])]
    return collate(trained or rows[:1])


def pack_batch(rows: list[dict], pad_id: int) -> dict[str, torch.Tensor]:
    """Return input_ids, labels and position_ids of shape [rows, longest]; positions restart with each example.

    Without an attention mask, transformers separates the examples by their positions; padding is one more example. The
    first token of an example has no label: no token before it predicts it.
    """
    batch = pad_batch(rows, pad_id)
    width = batch["input_ids"].shape[1]
    del batch["attention_mask"]
    positions = []
    for row in rows:
        lengths = [*row["seq_lengths"], width - len(row["input_ids"])]
        positions.append(torch.cat([torch.arange(length) for length in lengths]))
    batch["position_ids"] = torch.stack(positions)
    batch["labels"][batch["position_ids"] == 0] = IGNORED
    return batch


def collate(rows: list[dict], pad_id: int) -> dict[str, torch.Tensor]:
    """Return plain or packed rows as a batch."""
    if "seq_lengths" in rows[0]:
        return pack_batch(rows, pad_id)
    return pad_batch(rows, pad_id)


def keeps_examples_apart(model, pad_id: int, vocabulary: int) -> bool:
    """Return whether the model computes the same for a packed example as for the example alone.

    Two random examples are packed. The logits of each token of the second must be much closer to its logits alone than
    to its logits as the continuation of the first; this test holds for the rounding of any number format. Recurrent
    layers, which may mix very little, and convolutions, which mix the first tokens, don't keep examples apart.
    """
    if model._is_stateful:
        return False
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, vocabulary, (24,), generator=generator).tolist() for _ in range(2))
    labels = [IGNORED] * 48

    def logits(lengths: list[int]):
        row = {"input_ids": first + second, "labels": labels, "seq_lengths": lengths}
        packed = pack_batch([row], pad_id)
        inputs = {key: packed[key].to(device) for key in ("input_ids", "position_ids")}
        return model(**inputs, use_cache=False).logits[0, 24:].float()

    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([second], device=device), use_cache=False).logits[0].float()
        apart, mixed = ((logits(lengths) - alone).norm(dim=1) for lengths in ([24, 24], [48]))
    model.train(was_training)
    return bool((apart <= 0.25 * mixed).all())
