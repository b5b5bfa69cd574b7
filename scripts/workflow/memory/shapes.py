"""Shapes of models: from a config.json or a GGUF file, or built in for the models of the recipes."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError
from scripts.gguf.reader import TOKENS, read_gguf


@dataclass(frozen=True)
class Tower:
    """A Pixtral vision tower with its projector; sizes in features, patches in pixels."""

    hidden: int
    intermediate: int
    layers: int
    patch: int
    merge: int


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer with gated MLPs and grouped-query attention."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    tied: bool = False
    tower: Tower | None = None

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each linear layer in one block: q, k, v, o, gate, up, down."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        hidden, wide = self.hidden, self.intermediate
        attention = [(hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden)]
        return [*attention, (hidden, wide), (hidden, wide), (wide, hidden)]

    @property
    def block_parameters(self) -> int:
        """Number of weights in the linear layers of all blocks."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.linears)

    @property
    def other_parameters(self) -> int:
        """Number of weights in embeddings, output layer and norms."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables + (2 * self.layers + 1) * self.hidden

    @property
    def tower_parameters(self) -> int:
        """Number of weights in vision tower and projector."""
        if self.tower is None:
            return 0
        tower = self.tower
        block = 4 * tower.hidden**2 + 3 * tower.hidden * tower.intermediate + 2 * tower.hidden
        return tower.layers * block + 3 * tower.patch**2 * tower.hidden + tower.hidden + self.projector_parameters

    @property
    def projector_parameters(self) -> int:
        """Number of weights in the projector: norm, patch merger and two linear layers."""
        if self.tower is None:
            return 0
        merged = self.tower.hidden * self.tower.merge**2 * self.tower.hidden
        return self.tower.hidden + merged + self.tower.hidden * self.hidden + self.hidden**2

    @property
    def parameters(self) -> int:
        """Number of all weights."""
        return self.block_parameters + self.other_parameters + self.tower_parameters


# From the config.json of each model on the hub.
KNOWN = {
    "mistralai/Mistral-7B-v0.1": Shape(32000, 4096, 14336, 32, 32, 8, 128),
    "mistralai/Mistral-7B-v0.3": Shape(32768, 4096, 14336, 32, 32, 8, 128),
    "meta-llama/Llama-3.1-8B-Instruct": Shape(128256, 4096, 14336, 32, 32, 8, 128),
    "microsoft/Phi-3-mini-4k-instruct": Shape(32064, 3072, 8192, 32, 32, 32, 96),
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": Shape(
        131072, 5120, 32768, 40, 32, 8, 128, tower=Tower(1024, 4096, 24, 14, 2)
    ),
}


def shape_of_config(config: dict) -> Shape:
    """Return the shape in a config.json. Raises KeyError for a model of another family."""
    text = config.get("text_config", config)
    heads = text["num_attention_heads"]
    vision = config.get("vision_config")
    tower = vision and Tower(
        vision["hidden_size"],
        vision["intermediate_size"],
        vision["num_hidden_layers"],
        vision["patch_size"],
        config.get("spatial_merge_size", 1),
    )
    return Shape(
        vocabulary=text["vocab_size"],
        hidden=text["hidden_size"],
        intermediate=text["intermediate_size"],
        layers=text["num_hidden_layers"],
        heads=heads,
        kv_heads=text.get("num_key_value_heads") or heads,
        head_size=text.get("head_dim") or text["hidden_size"] // heads,
        tied=bool(config.get("tie_word_embeddings", False)),
        tower=tower,
    )


def shape_of_gguf(path: Path) -> Shape | None:
    """Return the shape in the header of a GGUF file; None for an invalid file or a model of another family."""
    try:
        file = read_gguf(path)
        values = {key.removeprefix(f"{file.architecture}."): value for key, value in file.values.items()}
        heads = values["attention.head_count"]
        return Shape(
            vocabulary=len(values[TOKENS]),
            hidden=values["embedding_length"],
            intermediate=values["feed_forward_length"],
            layers=values["block_count"],
            heads=heads,
            kv_heads=values.get("attention.head_count_kv", heads),
            head_size=values.get("attention.key_length", values["embedding_length"] // heads),
            tied=all(tensor.name != "output.weight" for tensor in file.tensors),
        )
    except (UserError, KeyError):
        return None


def shape_of_model(hub_id: str | None, folders: Iterable[Path]) -> Shape | None:
    """Return the shape of a model: from the first folder with a config.json, else the built-in one of the hub id."""
    for folder in folders:
        path = Path(folder) / "config.json"
        if path.is_file():
            try:
                return shape_of_config(json.loads(path.read_text(encoding="utf-8")))
            except (KeyError, ValueError, TypeError, AttributeError):
                return None
    return KNOWN.get(hub_id or "")
