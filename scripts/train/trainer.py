"""The trainers of all tasks: TRL's for text and images, transformers' for token classification."""

from collections.abc import Callable
from functools import partial

import torch
import transformers
import trl.trainer.utils
from peft import get_peft_model
from trl import SFTTrainer

from scripts.common.chat import IGNORED
from scripts.train.batches import EpochSampler, filled, with_blank_row, without_blank_rows
from scripts.train.resumable import Resumable
from scripts.train.sharding import Sharded

# TRL 1.16 computes logits only at labelled positions, but on a CPU at every position, because each number of positions
# would compile a new kernel. Here nothing is compiled on a CPU (scripts/common/threads.py), and most of a batch is
# prompts.
trl.trainer.utils._use_triton = lambda device: True


class Trainer(Sharded, Resumable, SFTTrainer):
    """SFTTrainer over tokenized rows.

    The evaluation loss is the mean over all trained tokens; transformers' depends on the batch size. Trained weights
    are in float32: 16-bit numbers lose updates of a few millionths. TRL puts an adapter over a 4-bit base into bf16,
    which fp16 training can't scale and a resume would not restore.

    The number of processes does not change the loss, a sum over a step's tokens divided by their number in all
    processes. Only the order of additions differs and, if processes split micro-batches, the dropout masks.
    """

    def __init__(self, *arguments, **options):
        self.logged_tokens = 0
        self.evaluated = 0  # [negative log likelihood, tokens] of the evaluation in progress
        if options["args"].world_size > 1:
            rows = {name: options[name] for name in ("train_dataset", "eval_dataset") if options[name] is not None}
            options |= {name: with_blank_row(part) for name, part in rows.items()}
            options["data_collator"] = partial(without_blank_rows, collate=options["data_collator"])
        super().__init__(*arguments, **options)
        if self.args.world_size > 1:
            # accelerate truncates what is gathered in an epoch's last micro-batches to the rows of the dataset, but TRL
            # gathers sums.
            self.accelerator.gather_for_metrics = self.accelerator.gather
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def _get_eval_sampler(self, eval_dataset):
        count = self.args.world_size
        if count == 1:
            return super()._get_eval_sampler(eval_dataset)
        return filled(list(range(len(eval_dataset) - 1)), self.args.eval_batch_size * count)

    def training_step(self, *arguments, **options):
        """Train on a micro-batch; dropout depends on seed, step and position in the step, not on the process."""
        step, place = self.state.global_step, self.place_in_step() * self.args.world_size + self.args.process_index
        torch.manual_seed(((self.args.seed * 1_000_003 + step) * 1_000_003 + place) % 2**63)
        return super().training_step(*arguments, **options)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, and add it to the sum over an evaluation's tokens."""
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.model.training:
            loss = result[0] if return_outputs else result
            tokens = (inputs["labels"][:, 1:] != IGNORED).sum()
            self.evaluated += torch.stack([loss.detach().double() * tokens, tokens.double()])
        return result

    def sums(self) -> dict:
        """Return accuracy and entropy of the micro-batches since the last log, and the tokens so far."""
        metrics = {name: list(values) for name, values in self._metrics["train"].items()}
        return {"metrics": metrics, "tokens": self._total_train_tokens}

    def set_sums(self, sums: dict) -> None:
        self._metrics["train"].clear()
        self._metrics["train"].update({name: list(values) for name, values in sums["metrics"].items()})
        self._total_train_tokens = self.logged_tokens = sums["tokens"]

    def evaluation(self) -> dict:
        """Return the loss per token of the evaluation that ends."""
        nll, tokens = self.accelerator.reduce(self.evaluated, "sum").tolist()
        self.evaluated = 0
        return {"eval_loss": nll / max(tokens, 1)}

    def since_log(self) -> tuple[int, dict]:
        """Return the number of tokens since the last log; TRL adds accuracy and entropy itself."""
        tokens, self.logged_tokens = self._total_train_tokens - self.logged_tokens, self._total_train_tokens
        return tokens, {}


class SpanTrainer(Resumable, transformers.Trainer):
    """transformers' trainer for LoRA jointly with a head, over rows {input_ids, labels} with a label per token.

    The loss is the mean over labelled tokens, weighted by `class_weights` [labels]; in an evaluation over all labelled
    tokens of the split, whatever the batches.
    """

    def __init__(self, *, model, class_weights: list[float], peft_config=None, **options):
        self.class_weights = torch.tensor(class_weights)
        self.trained, self.evaluated = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        options["args"].label_names = ["labels"]
        if peft_config:
            model = get_peft_model(model, peft_config)
        super().__init__(model=model, **options)
        self.model_accepts_loss_kwargs = True  # the loss below divides by the tokens of the whole effective batch

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the weighted loss, and add up loss, correct labels and tokens."""
        logits, labels = self.labelled(model, inputs)
        weights, tokens = self.class_weights.to(logits.device), len(labels)
        total = torch.nn.functional.cross_entropy(logits, labels, weights, reduction="sum")  # in nats
        right = (logits.argmax(-1) == labels).sum()
        batch = torch.stack([total.detach().double(), right.double(), right.new_tensor(tokens).double()]).cpu()
        (self.trained if self.model.training else self.evaluated).add_(batch)
        loss = total / (tokens if num_items_in_batch is None else num_items_in_batch)
        return (loss, (None,)) if return_outputs else loss

    def labelled(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [labelled tokens, labels] in float32 and the labels of a batch's labelled tokens."""
        labels = inputs["labels"]
        chosen = labels != IGNORED
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        return outputs.logits[chosen].float(), labels[chosen]

    def sums(self) -> list[float]:
        """Return loss, correct labels and tokens since the last log."""
        return self.trained.tolist()

    def set_sums(self, sums: list[float]) -> None:
        self.trained = torch.tensor(sums, dtype=torch.float64)

    def evaluation(self) -> dict:
        """Return loss and accuracy per token of the evaluation that ends."""
        total, right, tokens = self.evaluated.tolist()
        self.evaluated.zero_()
        return {"eval_loss": total / max(tokens, 1), "eval_mean_token_accuracy": right / max(tokens, 1)}

    def since_log(self) -> tuple[int, dict]:
        """Return the number of tokens since the last log, and the accuracy."""
        _, right, tokens = self.trained.tolist()
        self.trained.zero_()
        return tokens, {"mean_token_accuracy": right / max(tokens, 1)}


class HeadTrainer(SpanTrainer):
    """Trains a head alone on `Rows`; `features` has a function from row numbers to hidden states for each split.

    Dropout depends only on seed, step and micro-batch. Rows are not grouped by length, which trains a worse head
    (tests/benchmarks/results/head_rate.md).
    """

    def __init__(self, *, features: dict[str, Callable], dropout: float, **options):
        self.features, self.dropout = features, dropout
        options["args"].remove_unused_columns = False
        super().__init__(data_collator=collate_labels, group_rows=False, **options)

    def _get_train_sampler(self, train_dataset=None):
        return EpochSampler([1] * len(self.train_dataset), self.args.seed)

    def training_step(self, *arguments, **options):
        """Train on a micro-batch; dropout is seeded by seed, step and position in the step."""
        step = self.state.global_step + 1
        torch.manual_seed(((self.args.seed * 1_000_003 + step) * 1_009 + self.place_in_step()) % 2**63)
        return super().training_step(*arguments, **options)

    def labelled(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [labelled tokens, labels] and the labels of a batch."""
        features = self.features["train" if model.training else "validation"]
        hidden = features(inputs["numbers"].tolist()).float()
        return model(torch.nn.functional.dropout(hidden, self.dropout, model.training)), inputs["labels"]


def collate_labels(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Return the numbers of `Rows`, and the labels of their labelled tokens."""
    numbers, labels = [row["number"] for row in rows], [row["labels"] for row in rows]
    return {"numbers": torch.tensor(numbers), "labels": torch.cat(labels)}
