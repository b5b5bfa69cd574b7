"""transformers' trainer for token classification: LoRA and head together, in batches that survive a resume."""

import time

import torch
from transformers import Trainer

from scripts.common.chat import IGNORED
from scripts.train.head_model import summed_loss
from scripts.train.memory import peak_memory_mb
from scripts.train.resumable import Resumable


class SpanTrainer(Resumable, Trainer):
    """Trainer over rows {input_ids, labels} with a label per token; the loss is the mean over labelled tokens.

    `class_weights` [labels] weigh the loss. An evaluation's loss is the mean over all its tokens, whatever the batches.
    """

    def __init__(self, *arguments, class_weights: list[float], **options):
        self.class_weights = torch.tensor(class_weights)
        self.logged_at, self.trained = time.monotonic(), torch.zeros(3, dtype=torch.float64)
        self.evaluated = torch.zeros(3, dtype=torch.float64)
        super().__init__(*arguments, **options)
        self.model_accepts_loss_kwargs = True  # the loss below divides by the tokens of the whole effective batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the weighted loss, and count loss, right answers and tokens."""
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        chosen = labels != IGNORED
        logits = outputs.logits[chosen].float()
        total = summed_loss(logits, labels[chosen], self.class_weights.to(logits.device))
        tokens = chosen.sum()
        right = (logits.argmax(-1) == labels[chosen]).sum()
        batch = torch.stack([total.detach().double(), right.double(), tokens.double()]).cpu()
        if self.model.training:
            self.trained += batch
        else:
            self.evaluated += batch
        loss = total / (tokens if num_items_in_batch is None else num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def sums(self) -> list[float]:
        """Return loss, right answers and tokens since the last log."""
        return self.trained.tolist()

    def set_sums(self, sums: list[float]) -> None:
        """Take up what an earlier try had summed up."""
        self.trained = torch.tensor(sums, dtype=torch.float64)

    def log(self, logs, start_time=None):
        """Log accuracy, speed and memory with each training loss, and the loss per token of an evaluation."""
        if "eval_loss" in logs:
            total, right, tokens = self.evaluated.tolist()
            logs |= {"eval_loss": total / max(tokens, 1), "eval_mean_token_accuracy": right / max(tokens, 1)}
            self.evaluated.zero_()
        if "loss" in logs:
            now, (_, right, tokens) = time.monotonic(), self.trained.tolist()
            seconds = now - self.logged_at
            logs["mean_token_accuracy"] = right / max(tokens, 1)
            logs["seconds"] = round(seconds, 3)
            logs["tokens_per_second"] = round(tokens / seconds, 1) if seconds else None
            logs["memory_mb"] = peak_memory_mb()
            self.logged_at = now
            self.trained.zero_()
        super().log(logs, start_time)
