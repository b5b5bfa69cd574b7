"""Micro-batches without padding on a CPU: their rows follow each other in one row, up to a thousand tokens at a time.

Linear layers see no padding, and attention goes from example to example, so rows of any lengths cost only their own
tokens. A micro-batch is computed in parts, whose activations are small.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from scripts.common.chat import IGNORED
from scripts.train.padding import pad_batch

NAME = "sdpa_by_example"
LENGTHS = "example_lengths"
PART = 1024  # tokens of a part, unless one example has more: 512 take 5 to 20 % more time, and less memory
SHORT = 512  # tokens up to which torch's attention, which needs less memory, takes longer than two products of matrices
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "local_attention")  # of configurations


def attend_by_example(module, query, key, value, attention_mask, example_lengths=None, **options):
    """Causal attention of each example of a row to itself; query [1, heads, tokens, size].

    `example_lengths` are their lengths in order; none is longer than a layer's window. Short ones are computed here,
    the others as `sdpa` does. Returns [1, tokens, heads, size] and no weights.
    """
    options.pop("is_causal", None)
    lengths, start, found = example_lengths or [query.shape[2]], 0, []
    plain = not options.get("dropout") and options.get("position_bias") is None and options.get("softcap") is None
    for length in lengths:
        own = [each[:, :, start : start + length] for each in (query, key, value)]
        if plain and length <= SHORT:
            found.append(attend_directly(*own, options.get("scaling")))
        else:
            found.append(sdpa_attention_forward(module, *own, None, is_causal=True, **options)[0])
        start += length
    return torch.cat(found, 1), None


def attend_directly(query, key, value, scaling: float | None) -> torch.Tensor:
    """Causal attention of one example with its weights in memory, [1, tokens, heads, size].

    The query heads that share a key head are one matrix: their rows follow each other.
    """
    _, heads, length, size = query.shape
    shared = heads // key.shape[1]
    rows = query.reshape(-1, shared * length, size)
    scale = size**-0.5 if scaling is None else scaling
    mask = causal_mask(length, query.dtype).repeat(shared, 1)
    weights = torch.baddbmm(mask, rows, key[0].mT, alpha=scale).softmax(-1)
    return torch.bmm(weights, value[0]).view(heads, length, -1).transpose(0, 1)[None]


@lru_cache(maxsize=16)
def causal_mask(length: int, dtype: torch.dtype) -> torch.Tensor:
    """Return [length, length]: 0 where a token sees another, else minus infinity."""
    return torch.full((length, length), -torch.inf, dtype=dtype).triu(1)


AttentionInterface.register(NAME, attend_by_example)
AttentionMaskInterface.register(NAME, lambda *_, **__: None)


def parts(rows: list[dict], limit: int = PART) -> list[list[dict]]:
    """Return rows in parts of whole rows, in order, of at most `limit` tokens (or one row) and of similar sizes."""
    total = sum(len(row["input_ids"]) for row in rows)
    aim = total / max(-(-total // limit), 1)
    found, size = [[]], 0
    for row in rows:
        length = len(row["input_ids"])
        if found[-1] and (size + length > limit or size + length / 2 > aim):
            found.append([])
            size = 0
        found[-1].append(row)
        size += length
    return found


def join(rows: list[dict]) -> dict:
    """Return rows as one: input_ids, labels and position_ids [1, tokens], and the lengths of the examples.

    The first token of an example has no label: no token before it predicts it.
    """
    lengths = [length for row in rows for length in row.get("seq_lengths") or [len(row["input_ids"])]]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    ids, labels = (torch.tensor([[each for row in rows for each in row[key]]]) for key in ("input_ids", "labels"))
    labels[positions == 0] = IGNORED
    return {"input_ids": ids, "labels": labels, "position_ids": positions, LENGTHS: lengths}


def collate_unpadded(rows: list[dict]) -> dict:
    """Return rows as a micro-batch: `parts` for `each_part`, and `labels` [1, tokens] for transformers to count."""
    made = [join(part) for part in parts(rows)]
    return {"parts": made, "labels": torch.cat([part["labels"] for part in made], 1)}


def each_part(inputs: dict) -> Iterator[dict]:
    """Yield the parts of a micro-batch, or the micro-batch itself if it has none."""
    yield from inputs.get("parts") or [inputs]


def keeps_by_example(model, pad_id: int, vocabulary: int, longest: int) -> bool:
    """Return whether a model computes the same for joined examples as for padded rows; if so, it now does by example.

    `longest` is the length of the longest example; one that is longer than a layer's window needs a mask. Two random
    examples are joined. The hidden state of each token of the second must be much closer to that of the padded row than
    to that of the examples as one text; this holds for the rounding of any number format. A convolution, for example,
    would mix the first of them only. Recurrent layers, which may mix very little, are never joined.
    """
    config = model.config.get_text_config()
    windows = [window for window in (getattr(config, name, None) for name in WINDOWS) if window]
    if config._attn_implementation != "sdpa" or model._is_stateful or longest > min(windows, default=longest):
        return False
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, vocabulary, (length,), generator=generator).tolist() for length in (24, 17)]
    rows = [{"input_ids": row, "labels": row} for row in rows]
    padded, joined = pad_batch(rows, pad_id), join(rows)
    one = {**joined, LENGTHS: [41], "position_ids": torch.arange(41)[None]}

    def states(inputs: dict, places) -> torch.Tensor:
        inputs = {key: value for key, value in inputs.items() if key != "labels"}
        return model.base_model(**inputs, use_cache=False).last_hidden_state[places].float().flatten(0, -2)[24:]

    was_training = model.training
    model.eval()
    with torch.no_grad():
        try:
            alone = states(padded, padded["attention_mask"].bool())
            model.set_attn_implementation(NAME)
            apart, mixed = ((states(inputs, 0) - alone).norm(dim=1) for inputs in (joined, one))
            kept = bool((apart <= 0.25 * mixed).all())
        except (AttributeError, TypeError, ValueError, RuntimeError):  # an architecture of another kind
            kept = False
    if not kept:
        model.set_attn_implementation("sdpa")
    model.train(was_training)
    return kept
