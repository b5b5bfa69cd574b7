"""Write the weights that llama.cpp's converter needs for the mmproj file, under the names that it expects.

The converter gets a file with only these weights. Given the whole model, it omits the row of [IMG_BREAK], without which
llama.cpp refuses the file: it skips every name that contains `language_model.` (`MmprojModel.filter_tensors`) before it
looks for the embeddings (`LlavaVisionModel.modify_tensors`). It also skips towers whose names begin with `model.`, as
some versions of transformers save them.
"""

from pathlib import Path

from scripts.common.errors import UserError
from scripts.model.safetensors_files import weight_files

PARTS = ("vision_tower.", "multi_modal_projector.")
EMBEDDINGS = "embed_tokens.weight"


def read_tensor(path: Path, name: str, rows: slice = slice(None)):
    """Read a tensor, or some of its rows."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.get_slice(name)[rows]


def write_vision_weights(folder: Path, target: Path, break_token: int) -> None:
    """Write the vision tower, the projector and the embeddings up to [IMG_BREAK] of a model folder to one file.

    Raises UserError for a folder without a vision tower.
    """
    from safetensors.torch import save_file

    files = weight_files(folder)
    plain = {name: name.removeprefix("model.") for name in files}
    wanted = {name: short for name, short in plain.items() if short.startswith(PARTS)}
    missing = [part for part in PARTS if not any(short.startswith(part) for short in wanted.values())]
    if missing:
        raise UserError(f"has no weights '{missing[0]}…'", folder, remedy="merge a model with a vision tower")
    tensors = {short: read_tensor(files[name], name) for name, short in wanted.items()}
    [embeddings] = [name for name in files if name.endswith(EMBEDDINGS)]
    rows = slice(0, break_token + 1)
    save_file({**tensors, EMBEDDINGS: read_tensor(files[embeddings], embeddings, rows)}, target)
