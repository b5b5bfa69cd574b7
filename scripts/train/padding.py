"""Rows of different lengths as one batch, as training and prediction give it to a model."""

import torch

from scripts.common.chat import IGNORED


def pad_batch(rows: list[dict], pad_id: int) -> dict[str, torch.Tensor]:
    """Return input_ids, labels and attention_mask of shape [rows, longest], padded on the right."""
    width = max(len(row["input_ids"]) for row in rows)
    batch = {
        "input_ids": torch.full((len(rows), width), pad_id),
        "labels": torch.full((len(rows), width), IGNORED),
        "attention_mask": torch.zeros((len(rows), width), dtype=torch.long),
    }
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        batch["input_ids"][i, :length] = torch.tensor(row["input_ids"])
        batch["labels"][i, :length] = torch.tensor(row["labels"])
        batch["attention_mask"][i, :length] = 1
    return batch
