"""Use llama.cpp: open a GGUF file, render its chat template, and tokenize as a server does."""

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.chat_template import render_template
from scripts.common.checksums import intact
from scripts.common.errors import UserError
from scripts.gguf.check import check_gguf, fault_lines

if TYPE_CHECKING:
    import numpy
    from llama_cpp import Llama

TEMPLATE_KEY = "tokenizer.chat_template"
LINES_KEPT = 400
native_lines: deque[str] = deque(maxlen=LINES_KEPT)
native_callback = None


def keep_native_lines() -> None:
    """Keep llama.cpp's log in memory instead of printing it."""
    global native_callback
    import ctypes

    import llama_cpp

    if native_callback is None:

        @llama_cpp.llama_log_callback
        def native_callback(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
            native_lines.append(text.decode("utf-8", errors="replace"))

    native_lines.clear()
    llama_cpp.llama_log_set(native_callback, ctypes.c_void_p(0))


def show_native_lines() -> None:
    """Print llama.cpp's log since `keep_native_lines` to stderr."""
    sys.stderr.write("".join(native_lines))
    sys.stderr.flush()


@contextmanager
def native_lines_kept() -> Iterator[None]:
    """Keep llama.cpp's log in memory, and print it only if the block fails with another error than a UserError."""
    keep_native_lines()
    try:
        yield
    except UserError:
        raise
    except BaseException:
        show_native_lines()
        raise


def native_fault(place: int = -1) -> str:
    """Return the last error line of llama.cpp's log (or the first, `place` 0), else the last line."""
    return fault_lines("".join(native_lines))[place]


@contextmanager
def open_gguf(
    path: Path | str,
    context: int | None = None,
    threads: int | None = None,
    logits_all: bool = False,
    vocab_only: bool = False,
) -> Iterator["Llama"]:
    """Open a GGUF file in llama.cpp, and close it when the block ends.

    `context` is in tokens (None: the model's training context; with `logits_all`, memory for one row of logits per
    token is allocated). The native log is shown only on failure. Raises UserError for a file that has changed since it
    was written, or that llama.cpp can't load.
    """
    check_gguf(intact(path))
    import llama_cpp
    from jinja2 import TemplateError

    with native_lines_kept():
        try:
            model = llama_cpp.Llama(
                str(path),
                n_ctx=context or 0,
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=-1 if llama_device() == "gpu" else 0,
                logits_all=logits_all,
                vocab_only=vocab_only,
                verbose=False,
            )
        except (TemplateError, RecursionError) as error:
            raise UserError(f"its chat template is not valid Jinja: {error}", path) from error
        except (ValueError, RuntimeError, AssertionError, MemoryError) as error:
            show_native_lines()
            raise UserError(f"llama.cpp can't load it: {native_fault()}", path) from error
        native_lines.clear()
        with closing(model):
            yield model


def llama_device() -> str:
    """Return llama.cpp's device: `gpu` if it was built for one and finds it, else `cpu`."""
    import llama_cpp

    return "gpu" if llama_cpp.llama_supports_gpu_offload() else "cpu"


def can_drop_tokens(model: "Llama") -> bool:
    """Return whether tokens can be removed from a model's cache: not with a sliding window or a recurrent state."""
    import llama_cpp

    weights = model.model
    stateful = llama_cpp.llama_model_is_recurrent(weights) or llama_cpp.llama_model_is_hybrid(weights)
    return not stateful and llama_cpp.llama_model_n_swa(weights) == 0


def eval_logits(model: "Llama", ids: list[int]) -> Iterator["numpy.ndarray"]:
    """Evaluate tokens after the `n_tokens` of the cache; yield the logits of each batch of them, [tokens, vocabulary].

    `Llama.eval` keeps logits only in an array of context times vocabulary numbers.
    """
    import llama_cpp
    import numpy

    llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(model.ctx), 0, model.n_tokens, -1)
    for start in range(0, len(ids), model.n_batch):
        part = ids[start : start + model.n_batch]
        batch = llama_cpp.llama_batch_init(len(part), 0, 1)
        try:
            batch.n_tokens = len(part)
            for place, token in enumerate(part):
                batch.token[place], batch.pos[place], batch.logits[place] = token, model.n_tokens + place, True
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            if llama_cpp.llama_decode(model.ctx, batch):
                raise UserError("llama.cpp can't evaluate the tokens of a conversation", model.model_path)
        finally:
            llama_cpp.llama_batch_free(batch)
        model.input_ids[model.n_tokens : model.n_tokens + len(part)] = part
        model.n_tokens += len(part)
        logits = llama_cpp.llama_get_logits(model.ctx)
        yield numpy.ctypeslib.as_array(logits, shape=(len(part), model.n_vocab()))


def of_vocabulary(model: "Llama", what: str, *arguments):
    """Return the result of `llama_vocab_<what>` of llama.cpp's C interface for a model's vocabulary."""
    import llama_cpp

    return getattr(llama_cpp, f"llama_vocab_{what}")(llama_cpp.llama_model_get_vocab(model.model), *arguments)


def token_text(model: "Llama", token: int) -> str:
    """Return a token's text from the vocabulary; empty for an absent token (-1)."""
    return of_vocabulary(model, "get_text", token).decode("utf-8") if token >= 0 else ""


def adds_bos(model: "Llama") -> bool:
    """Return whether the GGUF requests a BOS token at the start of a text."""
    return of_vocabulary(model, "get_add_bos")


def ends_generation(model: "Llama", token: int) -> bool:
    """Return whether llama.cpp stops at a token."""
    return of_vocabulary(model, "is_eog", token)


def chat_text(model: "Llama", messages: list[dict]) -> str:
    """Render the GGUF's chat template for {"role", "content"} messages.

    The generation prompt follows, unless the last message is an answer. Raises UserError if the file has no template or
    the template refuses the messages.
    """
    from jinja2 import TemplateError

    template = model.metadata.get(TEMPLATE_KEY)
    if template is None:
        raise UserError("has no chat template", model.model_path, remedy="convert a model whose tokenizer has one")
    bos, eos = token_text(model, model.token_bos()), token_text(model, model.token_eos())
    try:
        return render_template(template, messages, bos, eos, messages[-1]["role"] != "assistant")
    except TemplateError as error:
        raise UserError(f"the chat template refuses the conversation: {error}", model.model_path) from None


def first_difference(left: list | str, right: list | str) -> int:
    """Return the position of the first difference of two sequences; without one, the length of the shorter."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def token_ids(model: "Llama", text: str) -> list[int]:
    """Return llama.cpp's token ids of a rendered chat text, special tokens parsed.

    As in llama.cpp's server, BOS occurs once: it is added if the GGUF says so (`tokenizer.ggml.add_bos_token`) and the
    text does not begin with it. The same holds for EOS (`tokenizer.ggml.add_eos_token`).
    """
    ids = model.tokenize(text.encode("utf-8"), add_bos=False, special=True)
    bos = token_text(model, model.token_bos())
    begins_with_bos = bool(bos) and text.startswith(bos)
    before = [model.token_bos()] if adds_bos(model) and not begins_with_bos else []
    after = [model.token_eos()] if of_vocabulary(model, "get_add_eos") else []
    return before + ids + after
