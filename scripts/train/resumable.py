"""What the trainers of all tasks share: an order of rows that survives a resume, and an end that stays the end."""

from pathlib import Path

from transformers import TrainerState

from scripts.train.batches import EpochSampler
from scripts.train.callbacks import patience_counter
from scripts.train.world import process_count


class Resumable:
    """Mixed into a trainer that has `row_seed`, which decides the rows' order, and `group_rows`, by length."""

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        lengths = [len(ids) for ids in dataset["input_ids"]]
        rows_of_step = self.args.train_batch_size * self.args.gradient_accumulation_steps * process_count()
        return EpochSampler(lengths, self.row_seed, rows_of_step if self.group_rows else None)

    def train_or_finish(self, resumed: Path | None, patience: int | None) -> None:
        """Train, from a checkpoint if there is one; one at which the run had stopped early is at its end."""
        if resumed and patience and patience_counter(resumed) >= patience:
            self.state = TrainerState.load_from_json(resumed / "trainer_state.json")
            self._load_best_model()
        else:
            self.train(resume_from_checkpoint=str(resumed) if resumed else None)
