"""The linear head of a token classifier: its weights and its files, as training writes and prediction reads them."""

from pathlib import Path

import torch

from scripts.common.files import write_json

HEAD = "head.safetensors"
HEAD_CONFIG = "head_config.json"


class Head(torch.nn.Linear):
    """A linear layer that computes in float32 whatever the backbone's number format, under autocast as well.

    Weights begin as those of transformers' classification heads do: normal with the given deviation, bias zero.
    """

    def __init__(self, hidden: int, labels: int, deviation: float = 0.02, seed: int = 0):
        super().__init__(hidden, labels, dtype=torch.float32)
        with torch.no_grad():
            self.weight.normal_(0.0, deviation, generator=torch.Generator().manual_seed(seed))
            self.bias.zero_()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits [..., labels] in float32 for hidden states [..., hidden]."""
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


def save_head(folder: Path, head: torch.nn.Linear, config: dict) -> None:
    """Write the head's weights, named as in a model with the head `score`, and what they mean."""
    from safetensors.torch import save_file

    weights = {"score.weight": head.weight, "score.bias": head.bias}
    save_file({name: weight.detach().float().cpu().contiguous() for name, weight in weights.items()}, folder / HEAD)
    write_json(folder / HEAD_CONFIG, config, part=True)


def load_head(path: Path) -> Head:
    """Return the head whose weights `score.*` are in a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        weight, bias = file.get_tensor("score.weight"), file.get_tensor("score.bias")
    head = Head(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight, "bias": bias})
    return head
