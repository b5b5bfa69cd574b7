"""Ask the model about an image with llama-cpp-python: `pip install llama-cpp-python pillow`, then

python example_llama_cpp.py page.png "your question"

The chat template and the tokenizer come from the GGUF file. The image is scaled here as in training; llama.cpp itself
would scale it differently.
"""

import argparse
import base64
import io
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from llama_cpp import Llama, mtmd_cpp
from llama_cpp.llama_chat_format import MTMDChatHandler
from PIL import Image, ImageOps

MODEL = "model.gguf"
MMPROJ = "mmproj.gguf"
LONGEST_EDGE = 1540
CELL = 28
IMAGE_FIRST = True
SYSTEM = None
WORDING = None
CONTEXT = 4096
SAMPLING = {}
QUESTION = "Hello"
LABEL = None


def opened(path: str) -> Image.Image:
    """Return an image as in training: upright, with transparent parts white."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page.convert("RGB")


def scaled(image: Image.Image) -> Image.Image:
    """Return an image at the size of training: no edge above LONGEST_EDGE, both multiples of CELL pixels."""
    ratio = max(max(image.size) / LONGEST_EDGE, 1)
    size = tuple(-(-int(edge / ratio) // CELL) * CELL for edge in image.size)
    return image.resize(size, Image.Resampling.BICUBIC)


def messages_of(path: str, question: str, system: str | None, label: str | None) -> list[dict]:
    """Return the conversation for the model to continue."""
    if WORDING:
        question = ImmutableSandboxedEnvironment().from_string(WORDING).render(prompt=question, label=label).strip()
    data = io.BytesIO()
    scaled(opened(path)).save(data, "PNG")
    address = "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
    parts = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": question}]
    start = [{"role": "system", "content": system}] if system else []
    return [*start, {"role": "user", "content": parts if IMAGE_FIRST else parts[::-1]}]


def open_mmproj(handler: MTMDChatHandler, model: Llama) -> None:
    """Open the handler's file with limits that keep the images' size; the handler itself would change it."""
    options = mtmd_cpp.mtmd_context_params_default()
    options.print_timings = False
    options.image_min_tokens, options.image_max_tokens = 1, (-(-LONGEST_EDGE // CELL)) ** 2
    handler.mtmd_ctx = mtmd_cpp.mtmd_init_from_file(handler.clip_model_path.encode(), model.model, options)
    if not handler.mtmd_ctx:
        raise SystemExit(f"{handler.clip_model_path}: llama.cpp can't load it")


def main() -> None:
    """Ask one question about one image and print the answer."""
    arguments = argparse.ArgumentParser(description="Ask the model about an image.")
    arguments.add_argument("image", help="picture to ask about")
    arguments.add_argument("question", nargs="?", default=QUESTION)
    arguments.add_argument("--system", default=SYSTEM)
    arguments.add_argument("--label", default=LABEL)
    arguments.add_argument("--model", default=str(Path(__file__).parent / MODEL))
    arguments.add_argument("--mmproj", default=str(Path(__file__).parent / MMPROJ))
    arguments.add_argument("--max-tokens", type=int, default=256)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    if not Path(chosen.image).is_file():
        raise SystemExit(f"no image {chosen.image}; give a picture's path as the first argument")
    messages = messages_of(chosen.image, chosen.question, chosen.system, chosen.label)
    handler = MTMDChatHandler(chosen.mmproj, verbose=False)
    model = Llama(chosen.model, n_ctx=CONTEXT, seed=chosen.seed, chat_handler=handler, verbose=False)
    try:
        open_mmproj(handler, model)
        reply = model.create_chat_completion(messages, max_tokens=chosen.max_tokens, **SAMPLING)
        print(reply["choices"][0]["message"]["content"].strip())
    finally:
        if handler.mtmd_ctx:
            mtmd_cpp.mtmd_free(handler.mtmd_ctx)
        model.close()


if __name__ == "__main__":
    main()
