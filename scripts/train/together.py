"""What a trainer needs so that the number of processes does not change what is learned."""

import torch

from scripts.train.shares import ShareLoader, ShareOfSteps, with_blank_row
from scripts.train.world import process_count, process_number


class Together:
    """Mixed into a trainer with `row_seed`: shares of the rows, and dropout that depends on a row's place in its step.

    The trainer's loss is the sum over a step's tokens by their number in all processes, as it is in one; so the order
    of additions is all that another number of processes changes, and, where they cut micro-batches, what is dropped.
    """

    place = (-1, 0)  # the optimizer step, and how many micro-batches of it this process has seen

    def get_train_dataloader(self):
        """Return the loader of this process's micro-batches."""
        if process_count() == 1:
            return super().get_train_dataloader()
        sampler = self._get_train_sampler(self.train_dataset)
        return self.share_of(self.train_dataset, sampler, self.args.gradient_accumulation_steps)

    def get_eval_dataloader(self, eval_dataset=None):
        """Return the loader of this process's part of the validation rows."""
        if process_count() == 1:
            return super().get_eval_dataloader(eval_dataset)
        rows = eval_dataset if eval_dataset is not None else self.eval_dataset
        return self.share_of(rows, torch.utils.data.SequentialSampler(range(len(rows))), 1)

    def share_of(self, rows, order, accumulation: int) -> ShareLoader:
        """Return the loader of this process's share of rows in this order."""
        share = ShareOfSteps(
            order, self.args.train_batch_size, accumulation, process_count(), process_number(), blank=len(rows)
        )
        return ShareLoader(
            with_blank_row(rows),
            batch_sampler=share,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def training_step(self, *arguments, **options):
        """Train on a micro-batch, its dropout decided by seed, step and place in the step, whoever trains on it."""
        step = self.state.global_step
        seen = self.place[1] if self.place[0] == step else 0
        self.place = (step, seen + 1)
        place = seen * process_count() + process_number()
        torch.manual_seed(((self.row_seed * 1_000_003 + step) * 1_000_003 + place) % 2**63)
        return super().training_step(*arguments, **options)
