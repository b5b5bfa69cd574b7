"""TRL's SFT trainer with batches that survive a resume and with speed and memory in its log."""

import time
from pathlib import Path

import torch
from transformers import TrainerState
from trl import SFTTrainer

from scripts.common.chat import IGNORED
from scripts.train.batches import EpochSampler
from scripts.train.callbacks import patience_counter


class Trainer(SFTTrainer):
    """SFTTrainer over rows that are tokenized already.

    `row_seed` decides their order, `group_rows` groups them by length. The loss of an evaluation is the mean over all
    trained tokens, as in training; transformers' own is a mean of batch means, which another batch size changes.
    """

    def __init__(self, *arguments, row_seed: int, group_rows: bool, **options):
        self.row_seed, self.group_rows = row_seed, group_rows
        self.logged_at, self.logged_tokens = time.monotonic(), 0
        self.evaluated = None  # [negative log likelihood, tokens] of the evaluation in progress
        super().__init__(*arguments, **options)

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        lengths = [len(ids) for ids in dataset["input_ids"]]
        group = self.args.train_batch_size * self.args.gradient_accumulation_steps if self.group_rows else None
        return EpochSampler(lengths, self.row_seed, group)

    def train_or_finish(self, resumed: Path | None, patience: int | None) -> None:
        """Train, from a checkpoint if there is one; one at which the run had stopped early is at its end."""
        if resumed and patience and patience_counter(resumed) >= patience:
            self.state = TrainerState.load_from_json(resumed / "trainer_state.json")
            self._load_best_model()
        else:
            self.train(resume_from_checkpoint=str(resumed) if resumed else None)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, and sum it up over an evaluation's tokens."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.model.training:
            loss = result[0] if return_outputs else result
            tokens = (inputs["labels"][:, 1:] != IGNORED).sum()
            batch = torch.stack([loss.detach().double() * tokens, tokens.double()])
            self.evaluated = batch if self.evaluated is None else self.evaluated + batch
        return result

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


def peak_memory_mb() -> int:
    """Return the most memory used so far in MiB: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() // 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
