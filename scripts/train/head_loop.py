"""The training loop of a linear head over hidden states: small enough to be exact, also after an interruption."""

import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from scripts.common.classifier_head import Head
from scripts.common.cli import Progress
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.train.batches import EpochSampler
from scripts.train.checkpoints import SAVING, checkpoint_name, finish_checkpoint, remove_old, unwritable
from scripts.train.energy import EnergyMeter
from scripts.train.features import Rows
from scripts.train.head_model import summed_loss
from scripts.train.memory import peak_memory_mb
from scripts.train.stop import StopOnTerm


@dataclass
class Split:
    """What the loop needs of a split: its rows, and their hidden states by row numbers."""

    rows: Rows
    features: Callable[[list[int]], torch.Tensor]


@dataclass
class State:
    """Where a training is; with the weights and the optimizer's moments it is all that a checkpoint holds."""

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    waited: int = 0  # evaluations in a row without a better one
    finished: bool = False
    due: bool = False  # whether the step's evaluation is still to be done
    history: list[dict] = field(default_factory=list)
    since_log: dict = field(default_factory=lambda: {"loss": 0.0, "correct": 0, "tokens": 0, "steps": 0})


class HeadTraining:
    """AdamW over the head's float32 weights; everything random depends on seed and step alone."""

    def __init__(
        self, head: Head, train: Split, validation: Split, settings: dict, shape: tuple[int, int], weights: list[float]
    ):
        self.head, self.train_split, self.validation = head, train, validation
        self.training, self.seed, self.dropout = settings["training"], settings["seed"], settings["head"]["dropout"]
        self.micro_batch, self.effective = shape[0], shape[0] * shape[1]
        self.device = head.weight.device
        self.weights = torch.tensor(weights, device=self.device)
        self.steps_per_epoch = math.ceil(len(train.rows) / self.effective)
        whole = math.ceil(self.training["epochs"] * self.steps_per_epoch)
        self.total = min(self.training["max_steps"] or whole, whole)
        self.state = State()
        self.best: dict[str, torch.Tensor] | None = None
        self.epoch, self.order, self.clock = -1, [], time.monotonic()
        self.optimizer, self.scheduler = self.make_optimizer()

    def make_optimizer(self):
        """Return AdamW, which lets the bias grow freely as transformers' trainer does, and the schedule of its rate."""
        from transformers import get_scheduler

        training = self.training
        groups = [
            {"params": [self.head.weight], "weight_decay": training["weight_decay"]},
            {"params": [self.head.bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=training["learning_rate"], betas=(0.9, training["adam_beta2"]), foreach=False
        )
        scheduler = get_scheduler(
            training["scheduler"],
            optimizer,
            num_warmup_steps=math.ceil(self.total * training["warmup_ratio"]),
            num_training_steps=self.total,
            scheduler_specific_kwargs={"min_lr_rate": 0.1} if training["scheduler"] == "cosine_with_min_lr" else {},
        )
        return optimizer, scheduler

    def run(self, folder: Path, resumed: Path | None, stop: StopOnTerm, what: str) -> State:
        """Train to the end, or until asked to stop, and leave the weights to keep in the head; return the state.

        Checkpoints go to `folder`, at evaluations and every `checkpoint_steps`. Raises UserError when the loss is no
        number, and on a stop, after a checkpoint of the last whole step.
        """
        if resumed:
            self.load(resumed)
        stop.at_once = False
        try:
            self.steps(folder, stop, what)
        finally:
            stop.at_once = True
        if self.best is not None:
            self.head.load_state_dict(self.best)
        return self.state

    def steps(self, folder: Path, stop: StopOnTerm, what: str) -> None:
        """Take the steps that are left."""
        bar = Progress(what, self.total, self.state.step)
        self.clock, self.meter = time.monotonic(), EnergyMeter()
        while not stop.asked and (self.state.due or (self.state.step < self.total and not self.state.finished)):
            if not self.state.due:
                if not self.one_step(stop):
                    break
                bar.advance(note=self.note())
                self.state.due = self.evaluates()
            evaluates = self.state.due
            if evaluates and not self.evaluate(stop):
                break
            every = self.training["checkpoint_steps"]
            if evaluates or (every and self.state.step % every == 0):
                self.save(folder)
        if stop.asked:
            name = checkpoint_name(self.state.step, self.state.due)
            if self.state.step and not (folder / name).exists():
                self.save(folder)
            raise stop.error(self.state.step, self.total)

    def batch(self) -> list[int]:
        """Return the rows of the step that comes next.

        They are not grouped by length, whatever the settings: there is no padding to save, and batches of like rows
        train a worse head (tests/benchmarks/results/head_rate.md).
        """
        epoch, place = divmod(self.state.step, self.steps_per_epoch)
        if epoch != self.epoch:
            sampler = EpochSampler([len(ids) for ids in self.train_split.rows.ids], self.seed)
            sampler.set_epoch(epoch)
            self.epoch, self.order = epoch, list(sampler)
        return self.order[place * self.effective : (place + 1) * self.effective]

    def one_step(self, stop: StopOnTerm) -> bool:
        """Take one optimizer step over an effective batch, micro-batch by micro-batch.

        Returns False when it was stopped; then it has changed nothing.
        """
        rows, step = self.batch(), self.state.step + 1
        tokens = max(sum(len(self.train_split.rows.labels[row]) for row in rows), 1)
        loss_sum, correct = 0.0, 0
        for micro, start in enumerate(range(0, len(rows), self.micro_batch)):
            if stop.asked:
                return False
            torch.manual_seed(((self.seed * 1_000_003 + step) * 1_009 + micro) % 2**63)
            part = rows[start : start + self.micro_batch]
            hidden = self.train_split.features(part).float()
            labels = torch.cat([self.train_split.rows.labels[row] for row in part]).to(self.device)
            logits = self.head(torch.nn.functional.dropout(hidden, self.dropout))
            loss = summed_loss(logits, labels, self.weights) / tokens
            loss.backward()
            loss_sum += loss.item()
            correct += (logits.argmax(-1) == labels).sum().item()
        norm = torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.training["max_grad_norm"]).item()
        rate = self.scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        self.state.step = step
        self.count(loss_sum, correct, tokens, norm, rate)
        return True

    def count(self, loss: float, correct: int, tokens: int, norm: float, rate: float) -> None:
        """Add a step to what is logged next, and log it when it is time."""
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} at step {self.state.step}",
                remedy="lower training.learning_rate, or train in bf16 or fp32",
            )
        sums = self.state.since_log
        for key, value in (("loss", loss), ("correct", correct), ("tokens", tokens), ("steps", 1)):
            sums[key] += value
        if self.state.step % self.training["logging_steps"] and self.state.step != self.total:
            return
        now = time.monotonic()
        seconds, self.clock = now - self.clock, now
        self.state.history.append(
            {
                "step": self.state.step,
                "epoch": round(self.state.step / self.steps_per_epoch, 4),
                "loss": sums["loss"] / sums["steps"],
                "learning_rate": rate,
                "grad_norm": norm if math.isfinite(norm) else None,
                "mean_token_accuracy": sums["correct"] / max(sums["tokens"], 1),
                "seconds": round(seconds, 3),
                "tokens_per_second": round(sums["tokens"] / seconds, 1) if seconds else None,
                "memory_mb": peak_memory_mb(),
                "energy_joules": self.meter.since(),
            }
        )
        self.state.since_log = State().since_log

    def note(self) -> str:
        """Return the last known loss."""
        rows = [row for row in self.state.history if "loss" in row or "eval_loss" in row]
        key = "eval_loss" if rows and "eval_loss" in rows[-1] else "loss"
        return f"{key.replace('_', ' ')} {rows[-1][key]:.3f}" if rows else ""

    def evaluates(self) -> bool:
        """Say whether an evaluation is due: every `eval_steps`, or at the end of an epoch; and at the end of all."""
        if not len(self.validation.rows):
            return False
        every = self.training["eval_steps"] or self.steps_per_epoch
        return self.state.step % every == 0 or self.state.step == self.total

    def batches(self, rows: Rows) -> Iterator[list[int]]:
        """Yield row numbers in micro-batches, in order."""
        for start in range(0, len(rows), self.micro_batch):
            yield list(range(start, min(start + self.micro_batch, len(rows))))

    def evaluate(self, stop: StopOnTerm) -> bool:
        """Log loss and accuracy per token on the validation split; remember the best weights, count the waiting.

        Returns False when it was stopped; then it is still due.
        """
        rows, nll, correct, tokens = self.validation.rows, 0.0, 0, 0
        with torch.no_grad():
            for part in self.batches(rows):
                if stop.asked:
                    return False
                labels = torch.cat([rows.labels[row] for row in part]).to(self.device)
                logits = self.head(self.validation.features(part))
                nll += summed_loss(logits, labels, self.weights).item()
                correct += (logits.argmax(-1) == labels).sum().item()
                tokens += len(labels)
        state, loss = self.state, nll / max(tokens, 1)
        state.history.append(
            {
                "step": state.step,
                "epoch": round(state.step / self.steps_per_epoch, 4),
                "eval_loss": loss,
                "eval_mean_token_accuracy": correct / max(tokens, 1),
            }
        )
        better = state.best_loss is None or loss < state.best_loss
        state.waited = 0 if better else state.waited + 1
        if better:
            state.best_loss = loss
            if self.training["keep_best"]:
                state.best_step = state.step
                self.best = {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}
        patience = self.training["early_stopping_patience"]
        state.finished = patience is not None and state.waited >= patience
        state.due = False
        return True

    def save(self, folder: Path) -> None:
        """Write a checkpoint, whole or not at all, and remove those that are too many.

        Raises UserError when it can't be written, as on a full disk; the one before it stays what it is.
        """
        from safetensors.torch import save_file

        name = checkpoint_name(self.state.step, self.state.due)
        tensors = {f"head.{name}": tensor for name, tensor in self.head.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in (self.best or {}).items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with unwritable(folder, self.state.step):
            beside = folder / SAVING / name
            shutil.rmtree(beside.parent, ignore_errors=True)
            beside.mkdir(parents=True)
            save_file(tensors, beside / "state.safetensors")
            write_json(beside / "state.json", asdict(self.state), part=True)
            finish_checkpoint(folder, name, step=self.state.step)
            remove_old(folder, self.training["keep_checkpoints"], None)

    def load(self, checkpoint: Path) -> None:
        """Take up a checkpoint: weights, best weights, the optimizer's moments, the schedule and the history."""
        from safetensors.torch import load_file

        parts: dict[str, dict] = {"head": {}, "best": {}, "optimizer": {}}
        for name, tensor in load_file(checkpoint / "state.safetensors").items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        self.state = State(**read_json(checkpoint / "state.json"))
        self.head.load_state_dict(parts["head"])
        if parts["best"]:
            self.best = {name: tensor.to(self.device) for name, tensor in parts["best"].items()}
        moments: dict[int, dict] = {}
        for name, tensor in parts["optimizer"].items():
            number, _, kind = name.partition(".")
            moments.setdefault(int(number), {})[kind] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.set_schedule()

    def set_schedule(self) -> None:
        """Put the schedule where the state's step is."""
        self.scheduler.last_epoch = self.state.step
        rates = zip(self.scheduler.base_lrs, self.scheduler.lr_lambdas, strict=True)
        self.scheduler._last_lr = [base * factor(self.state.step) for base, factor in rates]
        for group, rate in zip(self.optimizer.param_groups, self.scheduler._last_lr, strict=True):
            group["lr"] = rate
