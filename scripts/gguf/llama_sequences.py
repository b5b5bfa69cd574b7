"""Evaluate several sequences of tokens in one llama.cpp context, beside that of a `Llama` and with its weights.

Written for llama-cpp-python 0.3.36. Each sequence has a cache of its own (`kv_unified` off): a token's attention reads
the tokens of its sequence only, and costs the same however many others there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy

from scripts.common.errors import UserError
from scripts.gguf.llama import native_fault

if TYPE_CHECKING:
    from llama_cpp import Llama

BATCH = 512  # tokens that are evaluated at once
OUTPUTS = 64  # rows of logits that are kept at once
MOST = 32  # sequences; with more, no CPU that was measured was much faster
CACHE_BYTES = 2**30  # of all sequences, the shared one among them; rules/common.smk has it in `llama_mb`
CELLS = 256  # llama.cpp makes the cache of a sequence a multiple of this many tokens


def sequences_for(model: "Llama", length: int, wanted: int) -> int:
    """Return the number of sequences of `length` tokens, at most `wanted`, that fit with one more into 1 GiB of cache.

    The one more has the beginning that prompts share. The number depends on the model and not on the machine, because
    rounding may depend on the number of rows of a batch. It may be 0.
    """
    fitting = CACHE_BYTES // (padded(length) * bytes_of_token(model)) - 1
    return max(0, min(MOST, wanted, fitting))


def padded(length: int) -> int:
    """Return the number of tokens for which llama.cpp makes the cache of a sequence of `length`."""
    return -(-length // CELLS) * CELLS


def bytes_of_token(model: "Llama") -> int:
    """Return the bytes of a token in the cache: keys and values of each layer's key-value heads, 2 bytes a number."""
    import llama_cpp

    weights, metadata = model.model, model.metadata
    heads, width = llama_cpp.llama_model_n_head(weights), llama_cpp.llama_model_n_embd(weights)
    size = metadata.get(f"{metadata['general.architecture']}.attention.key_length", width // max(heads, 1))
    return max(1, llama_cpp.llama_model_n_layer(weights) * llama_cpp.llama_model_n_head_kv(weights) * int(size) * 2 * 2)


@contextmanager
def open_sequences(model: "Llama", count: int, length: int, threads: int) -> Iterator["Sequences"]:
    """Open a context for sequences 0 to `count` - 1 of `length` tokens, and close it when the block ends.

    Raises UserError if llama.cpp can't allocate it.
    """
    import llama_cpp

    options = llama_cpp.llama_context_default_params()
    options.n_seq_max, options.n_ctx = count, count * padded(length)
    options.n_batch = options.n_ubatch = BATCH
    options.n_outputs_max = OUTPUTS
    options.n_threads = options.n_threads_batch = threads
    options.kv_unified, options.no_perf = False, True
    # Off as in `Llama`: it sums in half precision, which changes every second greedy answer of a quantized model.
    options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model.model, options)
    if not context:
        raise UserError(
            f"llama.cpp can't evaluate {count} sequences of {length} tokens: {native_fault()}",
            model.model_path,
            remedy="set generation.batch_size: 1, which answers one prompt after the other",
        )
    batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
    try:
        yield Sequences(context, batch, model)
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


class Sequences:
    """An open context: the first tokens of each sequence are in its cache."""

    def __init__(self, context: int, batch, model: "Llama"):
        import llama_cpp

        self.context, self.batch, self.path = context, batch, model.model_path
        self.memory, self.vocabulary = llama_cpp.llama_get_memory(context), model.n_vocab()

    def keep(self, sequence: int, count: int) -> None:
        """Keep only the first `count` tokens of a sequence."""
        import llama_cpp

        llama_cpp.llama_memory_seq_rm(self.memory, sequence, count, -1)

    def copy(self, source: int, target: int) -> None:
        """Replace a sequence by another."""
        import llama_cpp

        self.keep(target, 0)
        llama_cpp.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def extend(
        self, sequence: int, start: int, ids: list[int], first: int | None = None
    ) -> Iterator[tuple[int, numpy.ndarray]]:
        """Evaluate tokens at the places `start` and following of one sequence, which has no others there.

        Yields (place of the first, logits) of the places from `first` on, [at most 64 tokens, vocabulary]; without
        `first` no logits are computed. The array is llama.cpp's own, until the next evaluation. Nothing is evaluated
        until it is iterated.
        """
        done, first = 0, start + len(ids) if first is None else first
        while done < len(ids):
            end = min(len(ids), done + BATCH, max(done, first - start) + OUTPUTS)
            places = range(start + done, start + end)
            tokens = zip(ids[done:end], places, [sequence] * len(places), strict=True)
            logits = self.evaluate([*tokens], first)
            if len(logits):
                yield max(first, start + done), logits
            done = end

    def evaluate(self, tokens: list[tuple[int, int, int]], first: int = 0) -> numpy.ndarray:
        """Evaluate (token, place, sequence) in one batch, in the order of sequences.

        Returns the logits of the tokens at the places from `first` on, [tokens, vocabulary], in an array that is
        llama.cpp's own, until the next evaluation.
        """
        import llama_cpp

        batch, rows = self.batch, 0
        batch.n_tokens = len(tokens)
        for row, (token, place, sequence) in enumerate(tokens):
            batch.token[row], batch.pos[row], batch.logits[row] = token, place, place >= first
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
            rows += place >= first
        if llama_cpp.llama_decode(self.context, batch):
            raise UserError("llama.cpp can't evaluate the tokens of a conversation", self.path)
        if not rows:
            return numpy.empty((0, self.vocabulary), numpy.float32)
        return numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), shape=(rows, self.vocabulary))
