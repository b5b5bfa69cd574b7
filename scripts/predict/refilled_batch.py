"""Generate answers with transformers in a batch whose ended answers make room for the next prompts.

`generate` alone computes all rows of a batch until the last answer ends. Here it stops when a quarter of the answers
have ended. They leave the batch, the next prompts enter, and it continues with the cache of the others. Written for
transformers 5.23: its cache can't take rows of another, so `kept` and `joined` set the tensors of the cache's layers.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, GenerationConfig, PreTrainedModel

REFILL_SHARE = 0.25  # of a batch's answers that end before it is refilled


@dataclass
class Rows:
    """Prompts with unfinished answers.

    `tokens` and `mask` are [rows, width], padded on the left; the last `made` tokens of a row are its answer. `cache`
    has keys and values of all tokens but the last, or of as many as a layer's sliding window.
    """

    prompts: list[int]
    made: list[int]
    tokens: "Tensor"
    mask: "Tensor"
    cache: "Cache"


def refilled_answers(
    model: "PreTrainedModel",
    config: "GenerationConfig",
    size: int,
    prompts: Sequence[int],
    inputs_of: Callable[[list[int]], dict],
) -> Iterator[tuple[int, list[int]]]:
    """Yield (prompt, token ids of its answer) as answers end, with the end token of those that have one.

    At most `size` answers are generated at a time. `prompts` are numbers, those of similar length next to each other;
    `inputs_of` returns what the model reads of some of them: `input_ids` and `attention_mask`, padded on the left, and
    pixel values. The other rows of a batch change the logits of an answer by rounding only. A model with a recurrent
    state, or without a cache, generates all answers of a batch in one call.
    """
    waiting, rows = list(prompts), None
    while waiting or rows:
        if waiting and (rows is None or can_join(rows.cache)):
            count = size - len(rows.prompts) if rows else size
            entering, waiting = waiting[:count], waiting[count:]
            inputs = inputs_of(entering)
            entered = None if model._is_stateful else begun(model, config, entering, inputs)
            if entered is None or entered.cache is None:
                yield from zip(entering, whole_answers(model, config, inputs), strict=True)
                continue
            rows = joined(rows, entered, config.pad_token_id) if rows else entered
            ended, rows = without_ended(rows, config)
            yield from ended
        if rows:
            ended, rows = without_ended(continued(model, config, rows), config)
            yield from ended


def without_ended(rows: Rows, config: "GenerationConfig") -> tuple[list[tuple[int, list[int]]], Rows | None]:
    """Return (prompt, token ids of its answer) of the answers that have ended, and the rows of the others, if any."""
    ended, unfinished = [], []
    for row, ids in enumerate(rows.tokens.tolist()):
        answer = until_end(ids[len(ids) - rows.made[row] :], config)
        if answer[-1] in config.eos_token_id or len(answer) == config.max_new_tokens:
            ended.append((rows.prompts[row], answer))
        else:
            unfinished.append(row)
    return ended, kept(rows, unfinished) if unfinished else None


def until_end(answer: list[int], config: "GenerationConfig") -> list[int]:
    """Return an answer up to its end token, at most `max_new_tokens` tokens."""
    stop = next((place for place, token in enumerate(answer) if token in config.eos_token_id), len(answer))
    return answer[: min(stop + 1, config.max_new_tokens)]


def whole_answers(model: "PreTrainedModel", config: "GenerationConfig", inputs: dict) -> list[list[int]]:
    """Return the token ids of the answers to prompts, generated until the last one ends."""
    done = generate(model, config, config.max_new_tokens, **inputs)
    return [until_end(answer, config) for answer in done.sequences[:, inputs["input_ids"].shape[1] :].tolist()]


def begun(model: "PreTrainedModel", config: "GenerationConfig", prompts: list[int], inputs: dict) -> Rows:
    """Return prompts with the first token of their answers; without a cache if the model returns none."""
    done = generate(model, config, 1, **inputs)
    return Rows(
        prompts, [1] * len(prompts), done.sequences, extended(inputs["attention_mask"], 1), done.past_key_values
    )


def continued(model: "PreTrainedModel", config: "GenerationConfig", rows: Rows) -> Rows:
    """Generate until enough answers have ended for the batch to be refilled."""
    import torch

    device, count = rows.tokens.device, len(rows.prompts)
    enough = max(1, int(REFILL_SHARE * count))
    ends = torch.tensor(config.eos_token_id, device=device)
    limits = torch.tensor([config.max_new_tokens - made for made in rows.made], device=device) + rows.tokens.shape[1]
    ended = torch.zeros(count, dtype=torch.bool, device=device)
    lengths = rows.mask.sum(1)
    shorter = lengths < lengths.max()

    def stops(tokens, _, **__):
        ended.logical_or_(torch.isin(tokens[:, -1], ends) | (limits == tokens.shape[1]))
        # When the longest rows have ended, the others need less padding: a batch is as wide as one of them at most.
        return ended | (ended.sum() >= enough) | (ended | shorter).all()

    done = generate(
        model,
        config,
        config.max_new_tokens - min(rows.made),
        input_ids=rows.tokens,
        attention_mask=rows.mask,
        past_key_values=rows.cache,
        stopping_criteria=[stops],
    )
    new = done.sequences.shape[1] - rows.tokens.shape[1]
    return Rows(
        rows.prompts, [made + new for made in rows.made], done.sequences, extended(rows.mask, new), done.past_key_values
    )


def generate(model: "PreTrainedModel", config: "GenerationConfig", tokens: int, **inputs):
    """Return transformers' output, with the cache, of at most some new tokens a row."""
    import torch

    config = copy(config)
    config.max_new_tokens, config.return_dict_in_generate, config.use_cache = tokens, True, True
    with torch.inference_mode():
        return model.generate(**inputs, generation_config=config)


def extended(mask: "Tensor", columns: int) -> "Tensor":
    """Return an attention mask with further columns of ones."""
    import torch

    return torch.cat([mask, mask.new_ones(len(mask), columns)], 1)


def can_join(cache: "Cache") -> bool:
    """Return whether all layers of a cache are of the kinds that `kept` and `joined` know."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def kept(rows: Rows, keep: list[int]) -> Rows:
    """Return some of the rows without the padding that none of them needs."""
    import torch

    if len(keep) == len(rows.prompts):
        return rows
    places = torch.tensor(keep, device=rows.tokens.device)
    mask = rows.mask[places]
    rows.cache.reorder_cache(places)
    if can_join(rows.cache):
        mask = mask[:, -int(mask.sum(1).max()) :]
        for layer in rows.cache.layers:
            set_states(layer, mask.shape[1] - 1, *(states[:, :, 1 - mask.shape[1] :] for states in states_of(layer)))
    made = [rows.made[row] for row in keep]
    return Rows([rows.prompts[row] for row in keep], made, rows.tokens[places, -mask.shape[1] :], mask, rows.cache)


def joined(first: Rows, second: Rows, padding: int) -> Rows:
    """Return the rows of both; the cache of the first takes that of the second."""
    tokens = padded_together(first.tokens, second.tokens, dim=1, value=padding)
    mask = padded_together(first.mask, second.mask, dim=1)
    for layer, other in zip(first.cache.layers, second.cache.layers, strict=True):
        # A layer with a sliding window has no more tokens than that; their last ones are those of the row.
        pairs = zip(states_of(layer), states_of(other), strict=True)
        set_states(layer, mask.shape[1] - 1, *(padded_together(*pair, dim=2) for pair in pairs))
    return Rows(first.prompts + second.prompts, first.made + second.made, tokens, mask, first.cache)


def padded_together(first: "Tensor", second: "Tensor", dim: int, value: int = 0) -> "Tensor":
    """Return the rows of two tensors, those of the shorter one padded at the start of `dim`."""
    import torch

    def filled(tensor: "Tensor") -> "Tensor":
        shape = list(tensor.shape)
        shape[dim] = max(first.shape[dim], second.shape[dim]) - shape[dim]
        return torch.cat([tensor.new_full(shape, value), tensor], dim)

    return torch.cat([filled(first), filled(second)])


def states_of(layer) -> tuple["Tensor", "Tensor"]:
    """Return the keys and values of a layer's cache, each [rows, heads, tokens, size]."""
    return layer.keys, layer.values


def set_states(layer, length: int, keys: "Tensor", values: "Tensor") -> None:
    """Replace the keys and values of a layer's cache after `length` tokens."""
    layer.keys, layer.values = keys, values
    if layer.is_sliding:
        layer.cumulative_length = length
