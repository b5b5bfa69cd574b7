"""What the programs peer_*.py measure of a trainer that is built on transformers', in its own environment."""

import json
import time

import torch
import transformers
from transformers import TrainerCallback


class Steps(TrainerCallback):
    """End times, tokens and losses of optimizer steps; tokens are those without padding, places those with it."""

    def __init__(self):
        self.times, self.losses, self.tokens, self.places, self.trained = [], [], [0], 0, 0
        own, plain = self, transformers.Trainer.training_step

        def training_step(self, model, inputs, *arguments, **options):
            own.count(inputs)
            return plain(self, model, inputs, *arguments, **options)

        transformers.Trainer.training_step = training_step
        transformers.trainer.DEFAULT_CALLBACKS.append(self)

    def count(self, inputs) -> None:
        """Add a micro-batch to those of the step in progress."""
        mask = inputs.get("attention_mask")
        full = torch.ones_like(inputs["input_ids"]) if mask is None or mask.shape != inputs["input_ids"].shape else mask
        self.tokens[-1] += int((full != 0).sum())
        self.places += full.numel()
        self.trained += int((inputs["labels"][:, 1:] != -100).sum())

    def on_step_end(self, *_, **__) -> None:
        """Keep the time."""
        self.times.append(time.monotonic())
        self.tokens.append(0)

    def on_log(self, arguments, state, control, logs=None, **_) -> None:
        """Keep the loss of the step."""
        self.losses += [logs["loss"]] if "loss" in (logs or {}) else []

    def print(self) -> None:
        """Print a line of JSON: seconds and tokens of the steps after the first, padding, trained tokens and losses."""
        found = {
            "seconds": self.times[-1] - self.times[0],
            "tokens": sum(self.tokens[1:]),
            "padding": 1 - sum(self.tokens) / self.places,
            "trained": self.trained,
            "losses": self.losses,
        }
        print("\n" + json.dumps(found))
