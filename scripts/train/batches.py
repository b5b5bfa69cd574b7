"""Which rows make a batch: order by epoch, grouping by length, packing, and the tensors of a batch."""

from collections.abc import Iterator

import torch

from scripts.common.chat import IGNORED
from scripts.common.padding import pad_batch


class EpochSampler(torch.utils.data.Sampler):
    """Row numbers of an epoch in an order that only seed and epoch decide, so that a resumed run sees the same.

    With `group` rows, stretches of 50 groups of shuffled rows are sorted by length, so that the rows of a batch are
    alike; the longest row comes first, so that too little memory shows at once (the scheme of transformers'
    LengthGroupedSampler, whose order depends on the global generator and so is lost on resume).
    """

    def __init__(self, lengths: list[int], seed: int, group: int | None = None):
        self.lengths, self.seed, self.group, self.epoch = lengths, seed, group, 0

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch; called by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        if self.group:
            stretch = min(self.group * 50, max(len(order) // 4, 1)) // self.group * self.group or self.group
            parts = [order[i : i + stretch] for i in range(0, len(order), stretch)]
            order = [row for part in parts for row in sorted(part, key=self.lengths.__getitem__, reverse=True)]
            longest = max(range(len(order)), key=lambda place: self.lengths[order[place]])
            order[0], order[longest] = order[longest], order[0]
        return iter(order)


def pack_rows(lengths: list[int], capacity: int) -> list[list[int]]:
    """Return packs of row numbers whose lengths sum to at most `capacity`: first fit over rows sorted by length.

    A row longer than `capacity` gets a pack of its own. Deterministic; O(n log n) by a segment tree over free space.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    size = 1
    while size < max(len(order), 1):
        size *= 2
    free = [capacity] * (2 * size)
    packs: list[list[int]] = [[] for _ in order]
    for row in order:
        node = 1
        if lengths[row] > free[1]:
            node = size + next(i for i, pack in enumerate(packs) if not pack)
        while node < size:
            node = 2 * node if free[2 * node] >= lengths[row] else 2 * node + 1
        packs[node - size].append(row)
        free[node] -= lengths[row]
        while node > 1:
            node //= 2
            free[node] = max(free[2 * node], free[2 * node + 1])
    return [pack for pack in packs if pack]


def packed_rows(dataset, capacity: int) -> Iterator[dict]:
    """Yield rows {input_ids, labels, seq_lengths} of at most `capacity` tokens, made of a dataset's examples.

    An example's first token predicts nothing across the border: its label is ignored.
    """
    for pack in pack_rows([len(ids) for ids in dataset["input_ids"]], capacity):
        examples = [dataset[i] for i in pack]
        yield {
            "input_ids": [token for example in examples for token in example["input_ids"]],
            "labels": [label for example in examples for label in [IGNORED, *example["labels"][1:]]],
            "seq_lengths": [len(example["input_ids"]) for example in examples],
        }


def pack_batch(rows: list[dict], pad_id: int) -> dict[str, torch.Tensor]:
    """Return input_ids, labels and position_ids of shape [rows, longest]; positions restart with each example.

    Without an attention mask, transformers reads the examples' borders off the positions and keeps them apart;
    padding is one more example, which no label looks at.
    """
    batch = pad_batch(rows, pad_id)
    width = batch["input_ids"].shape[1]
    del batch["attention_mask"]
    positions = []
    for row in rows:
        lengths = [*row["seq_lengths"], width - len(row["input_ids"])]
        positions.append(torch.cat([torch.arange(length) for length in lengths]))
    batch["position_ids"] = torch.stack(positions)
    return batch


class Collator:
    """Makes a batch of plain or of packed rows."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        make = pack_batch if "seq_lengths" in rows[0] else pad_batch
        return make(rows, self.pad_id)


def keeps_examples_apart(model, pad_id: int, vocabulary: int) -> bool:
    """Say whether the model computes the same for a packed example as for the example alone.

    Two random examples are packed. The second one's logits must be nearer to those it has alone than to those it has
    when it is the rest of one long example, and by far, whatever the rounding of the number format.
    """
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
        apart = (logits([24, 24]) - alone).abs().mean()
        mixed = (logits([48]) - alone).abs().mean()
    model.train(was_training)
    return bool(apart <= 0.25 * mixed)
