"""The trainers of all tasks, on transformers' Trainer: for text and images, and for token classification."""

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy
import torch
import transformers
from peft import get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from scripts.common.chat import IGNORED
from scripts.common.errors import UserError
from scripts.train.adapter_layer import speed_up_adapter
from scripts.train.batches import EpochSampler, filled, with_blank_row, without_blank_rows
from scripts.train.output_layer import add_loss_sums
from scripts.train.resumable import Resumable
from scripts.train.sharding import Sharded, is_sharded, reshard
from scripts.train.unpadded import each_part

# accelerate looks for this optimizer's package, which we don't install, in all folders of packages twice in each step.
sys.modules.setdefault("lomo_optim", None)


class Trainer(Sharded, Resumable, transformers.Trainer):
    """Trains a causal language model over tokenized rows {input_ids, labels}, or over images with them.

    The loss is the mean over a step's trained tokens, and that of an evaluation the mean over all of its tokens;
    transformers' depends on the batch size. Trained weights are in float32: 16-bit numbers lose updates of a few
    millionths.

    The number of processes does not change the loss, a sum over a step's tokens divided by their number in all
    processes. Only the order of additions differs and, if processes split micro-batches, the dropout masks.
    """

    def __init__(self, *, model, peft_config=None, **options):
        arguments = options["args"]
        self.trained, self.evaluated = torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
        arguments.remove_unused_columns = False
        if arguments.world_size > 1:
            rows = {name: options[name] for name in ("train_dataset", "eval_dataset") if options[name] is not None}
            options |= {name: with_blank_row(part) for name, part in rows.items()}
            options["data_collator"] = partial(without_blank_rows, collate=options["data_collator"])
        add_loss_sums(model)
        reshard(model)  # before PEFT freezes the base
        if peft_config is not None:
            model = with_adapter(model, peft_config, arguments.gradient_checkpointing)
        super().__init__(model=model, **options)
        self.model_accepts_loss_kwargs = True  # the loss below divides by the tokens of the whole effective batch
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()

    def _get_eval_sampler(self, eval_dataset):
        count = self.args.world_size
        if count == 1:
            return super()._get_eval_sampler(eval_dataset)
        return filled(list(range(len(eval_dataset) - 1)), self.args.eval_batch_size * count)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Train on a micro-batch; dropout depends on seed, step and position in the step, not on the process."""
        step, place = self.state.global_step, self.place_in_step() * self.args.world_size + self.args.process_index
        torch.manual_seed(((self.args.seed * 1_000_003 + step) * 1_000_003 + place) % 2**63)
        losses = [super(Trainer, self).training_step(model, part, num_items_in_batch) for part in each_part(inputs)]
        return torch.stack(losses).sum()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, and add entropy, right guesses and tokens to the sums since the last log or evaluation."""
        found = model(**inputs, loss_sums=True)
        tokens = found.tokens.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        loss = (found.loss / tokens).float()
        if num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients; the tokens are those of all
        if found.balance is not None:  # a mean of each micro-batch, which the steps' gradients average
            loss = loss + found.balance / (
                1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            )
        seen = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        sums = (found.loss.detach(), found.entropy, found.right, found.tokens, seen)
        batch = torch.stack([torch.as_tensor(each, dtype=torch.float64, device=loss.device) for each in sums])
        name = "trained" if self.model.training else "evaluated"
        setattr(self, name, getattr(self, name).to(loss.device) + self.accelerator.reduce(batch, "sum"))
        return loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Add a batch to the sums of the evaluation; it returns a loss and no logits."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            losses = [self.compute_loss(model, part) for part in each_part(inputs)]
        return torch.stack(losses).mean(), None, None

    def sums(self) -> list[float]:
        """Return loss, entropy, right guesses, trained tokens and all tokens since the last log."""
        return self.trained.tolist()

    def set_sums(self, sums: list[float]) -> None:
        self.trained = torch.tensor(sums, dtype=torch.float64)

    def evaluation(self) -> dict:
        """Return loss, entropy and accuracy per token of the evaluation that ends."""
        metrics = {f"eval_{name}": value for name, value in means_of(self.evaluated).items()}
        self.evaluated.zero_()
        return metrics

    def since_log(self) -> tuple[int, dict]:
        """Return the number of tokens since the last log, and entropy and accuracy per trained token."""
        metrics, tokens = means_of(self.trained), int(self.trained[4])
        del metrics["loss"]  # transformers logs its own
        self.trained.zero_()
        return tokens, metrics


def means_of(sums: torch.Tensor) -> dict[str, float]:
    """Return loss, entropy and accuracy per trained token of a trainer's sums."""
    loss, entropy, right, tokens, _ = sums.tolist()
    tokens = max(tokens, 1)
    return {"loss": loss / tokens, "entropy": entropy / tokens, "mean_token_accuracy": right / tokens}


def with_adapter(model, config, checkpointing: bool):
    """Return the model with a new adapter; raises UserError if the output layer would get one."""
    model = get_peft_model(model, config)
    if isinstance(model.get_output_embeddings(), BaseTunerLayer):
        raise UserError("lora.target_modules: the output layer can't have an adapter", remedy="leave it out")
    if checkpointing:
        model.enable_input_require_grads()
    if not is_sharded(model):
        speed_up_adapter(model)
    return model


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
        """Train on a micro-batch; seed, step and position in the step alone determine the dropout."""
        self.dropout_seed = (self.args.seed, self.state.global_step + 1, self.place_in_step())
        return super().training_step(*arguments, **options)

    def labelled(self, model, inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [labelled tokens, labels] and the labels of a batch."""
        features = self.features["train" if model.training else "validation"]
        hidden = features(inputs["numbers"].tolist())  # computed for this batch, so dropout may change it
        if model.training and self.dropout:
            drop(hidden, self.dropout, self.dropout_seed)
        return model(hidden), inputs["labels"]


def drop(hidden: torch.Tensor, rate: float, seed: Sequence[int]) -> None:
    """Set values to zero at this rate, and scale the others so that the expected values stay.

    On a CPU numpy does it, at a rate rounded to 1 / 65,536: torch took longer for it than for all the rest of a step.
    """
    if hidden.device.type == "cpu":
        dropped = min(round(rate * 2**16), 2**16 - 1)
        drawn = numpy.random.SFC64(seed).random_raw(-(-hidden.numel() // 4)).view(numpy.uint16)[: hidden.numel()]
        values = hidden.numpy()
        numpy.multiply(values, drawn.reshape(values.shape) >= dropped, out=values)
        hidden.mul_(2**16 / (2**16 - dropped))
    else:
        torch.manual_seed(int(numpy.random.SeedSequence(seed).generate_state(1)[0]))
        torch.nn.functional.dropout(hidden, rate, inplace=True)


def collate_labels(rows: list[dict]) -> dict[str, torch.Tensor]:
    """Return the numbers of `Rows`, and the labels of their labelled tokens."""
    numbers, labels = [row["number"] for row in rows], [row["labels"] for row in rows]
    return {"numbers": torch.tensor(numbers), "labels": torch.cat(labels)}
