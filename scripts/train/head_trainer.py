"""transformers' trainer for a linear head over hidden states, cached or computed by a frozen backbone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import TrainerCallback

from scripts.train.batches import EpochSampler
from scripts.train.classifier_head import Head
from scripts.train.features import Rows
from scripts.train.trainer import SpanTrainer


@dataclass
class Split:
    """A split's rows, and the function that returns the hidden states of rows by number."""

    rows: Rows
    features: Callable[[list[int]], torch.Tensor]

    def batch(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        """Return row numbers and the labels of their labelled tokens."""
        labels = torch.cat([self.rows.labels[number] for number in numbers])
        return {"numbers": torch.tensor(numbers), "labels": labels}


class EvaluateAtEnd(TrainerCallback):
    """Evaluate after the last step, whatever `eval_steps` is."""

    def on_step_end(self, args, state, control, **_):
        if args.eval_strategy == "steps" and state.global_step >= state.max_steps:
            control.should_evaluate = True


class HeadTrainer(SpanTrainer):
    """Trains a head on the features of `train`; dropout depends only on seed, step and micro-batch.

    Rows are not grouped by length, which trains a worse head (tests/benchmarks/results/head_rate.md).
    """

    def __init__(self, head: Head, train: Split, validation: Split, dropout: float, **options):
        self.train_split, self.validation, self.dropout = train, validation, dropout
        super().__init__(
            model=head,
            train_dataset=range(len(train.rows)),
            eval_dataset=range(len(validation.rows)) if len(validation.rows) else None,
            group_rows=False,
            **options,
        )

    def _get_train_sampler(self, train_dataset=None):
        return EpochSampler([len(ids) for ids in self.train_split.rows.ids], self.row_seed)

    def get_train_dataloader(self):
        self.data_collator = self.train_split.batch
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset=None):
        self.data_collator = self.validation.batch
        return super().get_eval_dataloader(eval_dataset)

    def training_step(self, *arguments, **options):
        """Train on a micro-batch; dropout is seeded by seed, step and position in the step."""
        step = self.state.global_step + 1
        torch.manual_seed(((self.row_seed * 1_000_003 + step) * 1_009 + self.place_in_step()) % 2**63)
        return super().training_step(*arguments, **options)

    def labelled(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [labelled tokens, labels] and the labels of a batch."""
        split = self.train_split if model.training else self.validation
        hidden = split.features(inputs["numbers"].tolist()).float()
        return model(torch.nn.functional.dropout(hidden, self.dropout, model.training)), inputs["labels"]
