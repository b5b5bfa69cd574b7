"""How several processes share the rows of each optimizer step, so that each step sees what one process would see."""

import math
from collections.abc import Iterator

import torch
from datasets import Dataset, concatenate_datasets

from scripts.common.chat import IGNORED


class ShareOfSteps(torch.utils.data.Sampler):
    """The micro-batches of one of several processes, as row numbers.

    A step takes the next rows of `order`, as it does in one process. They are cut into micro-batches, which the
    processes take in turn. All have equally many: who would have none at the end of an epoch takes the row `blank`,
    which teaches nothing.
    """

    def __init__(self, order, micro_batch: int, accumulation: int, processes: int, number: int, blank: int):
        self.order, self.micro_batch, self.accumulation = order, micro_batch, accumulation
        self.processes, self.number, self.blank = processes, number, blank

    @property
    def rows_of_step(self) -> int:
        """The number of rows of all processes in an optimizer step."""
        return self.micro_batch * self.accumulation * self.processes

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch; called by the trainer."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        steps, rest = divmod(len(self.order), self.rows_of_step)
        return steps * self.accumulation + math.ceil(math.ceil(rest / self.micro_batch) / self.processes)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.order)
        for start in range(0, len(rows), self.rows_of_step):
            step = rows[start : start + self.rows_of_step]
            micro_batches = [step[i : i + self.micro_batch] for i in range(0, len(step), self.micro_batch)]
            for first in range(0, len(micro_batches), self.processes):
                turn = micro_batches[first : first + self.processes]
                yield turn[self.number] if self.number < len(turn) else [self.blank]


class ShareLoader(torch.utils.data.DataLoader):
    """A loader whose order of rows follows the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch; called by the trainer."""
        self.batch_sampler.set_epoch(epoch)


def with_blank_row(rows: Dataset) -> Dataset:
    """Return the rows and, as the last one, a row of two tokens without a label."""
    first = rows[0]
    columns = {name: [[]] for name in rows.column_names}
    columns |= {"input_ids": [first["input_ids"][:1] * 2], "labels": [[IGNORED] * 2]}
    if "seq_lengths" in columns:
        columns["seq_lengths"] = [[2]]
    return concatenate_datasets([rows, Dataset.from_dict(columns, features=rows.features)])
