"""A process that opens GGUF files as this project does, for tests that look whether it survives.

python -m tests.support.gguf_victim model.gguf < paths: reads one path a line, opens the file in llama.cpp in every way
that steps do, and answers with a line. `model.gguf` is a language model for projectors. What it has not answered when
it dies killed it.
"""

import contextlib
import resource
import sys
import tempfile
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.gguf_header import read_header

MEMORY = 6 * 2**30
TEXTS = ("ab a", "été 🙂\n\0<s>[INST]", "")


def use_model(path: Path) -> None:
    """Load a language model, make tokens of texts and texts of tokens, compute, render and quantize."""
    from scripts.common.llama import chat_text, open_gguf, token_ids
    from scripts.gguf.quantize_gguf import quantize_gguf

    with open_gguf(path, context=16, threads=1, vocab_only=True) as model:
        for text in TEXTS:
            model.detokenize(token_ids(model, text), special=True)
    if not read_header(path).tensors:
        return
    with open_gguf(path, context=16, threads=1) as model:
        with contextlib.suppress(UserError):
            chat_text(model, [{"role": "user", "content": "ab"}])
        ids = token_ids(model, "ab 🙂")[:12]
        model.eval(ids)
        model.eval([model.sample(temp=0.0)])
    with tempfile.TemporaryDirectory() as folder:
        quantize_gguf(path, Path(folder) / "q.gguf", "q8_0", threads=1)


def use_projector(path: Path, model: Path) -> None:
    """Load a projector beside a language model, which computes an image to warm up."""
    from scripts.common.llama import open_gguf
    from scripts.common.llama_vision import open_vision

    with open_gguf(model, context=16, threads=1) as opened, open_vision(opened, path, None, threads=1):
        pass


def use(path: Path, model: Path) -> str:
    """Open a file; return what came of it."""
    try:
        if read_header(path).values["general.architecture"] == "clip":
            use_projector(path, model)
        else:
            use_model(path)
    except UserError as error:
        return f"refused: {error}"
    return "fine"


def main() -> None:
    """Answer line by line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        answer = use(Path(line.rstrip("\n")), Path(sys.argv[1]))
        print(answer.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
