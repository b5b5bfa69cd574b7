"""TRL's SFT trainer with batches that survive a resume and with speed and memory in its log."""

import time

import torch
from trl import SFTTrainer

from scripts.common.chat import IGNORED
from scripts.train.memory import peak_memory_mb
from scripts.train.resumable import Resumable
from scripts.train.sharding import Sharded
from scripts.train.together import Together


class Trainer(Together, Sharded, Resumable, SFTTrainer):
    """SFTTrainer over rows that are tokenized already.

    The loss of an evaluation is the mean over all trained tokens, as in training; transformers' own is a mean of batch
    means, which another batch size changes. Whatever is trained is held in float32: an update of a few millionths is
    lost on a number of 16 bits. TRL holds an adapter over a 4-bit base in bf16, which fp16 training can't scale and a
    resumed run would not be given back.
    """

    def __init__(self, *arguments, **options):
        self.logged_at, self.logged_tokens = time.monotonic(), 0
        self.evaluated = None  # [negative log likelihood, tokens] of the evaluation in progress
        super().__init__(*arguments, **options)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, and sum it up over an evaluation's tokens."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.model.training:
            loss = result[0] if return_outputs else result
            tokens = (inputs["labels"][:, 1:] != IGNORED).sum()
            batch = torch.stack([loss.detach().double() * tokens, tokens.double()])
            self.evaluated = batch if self.evaluated is None else self.evaluated + batch
        return result

    def sums(self) -> dict:
        """Return accuracy and entropy of the micro-batches since the last log, and the tokens so far."""
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        return {"metrics": metrics, "tokens": self._total_train_tokens}

    def set_sums(self, sums: dict) -> None:
        """Take up what an earlier try had summed up."""
        self._metrics["train"].clear()
        self._metrics["train"].update({name: list(values) for name, values in sums["metrics"].items()})
        self._total_train_tokens = sums["tokens"]

    def log(self, logs, start_time=None):
        """Log speed and memory with each training loss, and the loss per token of an evaluation."""
        if "eval_loss" in logs:
            nll, tokens = self.accelerator.reduce(self.evaluated, "sum").tolist()
            logs["eval_loss"] = nll / max(tokens, 1)
            self.evaluated = None
        if "loss" in logs:
            now, tokens = time.monotonic(), self._total_train_tokens
            seconds = now - self.logged_at
            logs["seconds"] = round(seconds, 3)
            logs["tokens_per_second"] = round((tokens - self.logged_tokens) / seconds, 1) if seconds else None
            logs["memory_mb"] = peak_memory_mb()
            self.logged_at, self.logged_tokens = now, tokens
        super().log(logs, start_time)
