"""Exact resume for the trainers of all tasks: a resumed run gives the same bytes as an uninterrupted one.

transformers saves weights, optimizer, schedule and random numbers. This module adds what is missing: the order of the
rows, the sums since the last log, an evaluation that was interrupted, the best checkpoint, and checkpoints that are
complete or absent. A training that diverges ends here too, with the weights of a checkpoint.
"""

import math
import random
import shutil
import time
from pathlib import Path

import numpy
import torch
from accelerate import PartialState
from transformers import TrainerCallback
from transformers.trainer_pt_utils import nested_gather

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.common.terminal import warn
from scripts.train.batches import EpochSampler
from scripts.train.checkpoints import (
    SAVING,
    checkpoint_name,
    checkpoints_in,
    finish_checkpoint,
    remove_old,
    step_of,
    trusted,
    unwritable,
)
from scripts.train.diverged import REMEDY, DivergedError, diverged_note
from scripts.train.memory import peak_memory_mb
from scripts.train.processes import any_process
from scripts.train.sharding import are_finite
from scripts.train.stop import StopOnTerm

SINCE_LOG = "since_log.json"


class EvaluationStoppedError(Exception):
    """SIGTERM arrived during an evaluation."""


class Resumable(TrainerCallback):
    """Mixin for a trainer, which is also a callback of its own loop.

    `group_rows` groups rows by length; `stop` says whether SIGTERM arrived. The newest `args.save_total_limit`
    checkpoints and the best one are kept. A trainer has the methods `sums`, which returns its sums since the last log,
    ready for JSON, `set_sums`, which restores them, `since_log` (tokens and metrics) and `evaluation` (metrics).
    """

    def __init__(self, *arguments, group_rows: bool, stop: StopOnTerm, **options):
        self.group_rows, self.stop = group_rows, stop
        self.logged_at, self.step_and_place = time.monotonic(), (-1, 0)
        self.resumed: Path | None = None
        self.saved: str | None = None  # the checkpoint of the current state
        self.diverged: dict | None = None  # `step`, `kept_step` (0: untrained) and `reason`
        self.last_step: tuple | None = None  # random numbers and sums after the last complete step
        self.updates_per_epoch: int | None = None
        self.order: EpochSampler | None = None
        super().__init__(*arguments, **options)
        self.add_callback(self)

    @property
    def folder(self) -> Path:
        return Path(self.args.output_dir)

    def _get_train_sampler(self, train_dataset=None):
        dataset = train_dataset if train_dataset is not None else self.train_dataset
        lengths, processes = [len(ids) for ids in dataset["input_ids"]], self.args.world_size
        at_once = self.args.train_batch_size * processes
        group = at_once * self.args.gradient_accumulation_steps if self.group_rows else None
        if processes == 1:
            self.order = EpochSampler(lengths, self.args.seed, group)
        else:
            self.order = EpochSampler(lengths[:-1], self.args.seed, group, multiple=at_once)
        return self.order

    def train_from(self, resumed: Path | None) -> None:
        """Train, from a checkpoint if there is one.

        If the training diverges, `diverged` says so, and the model has the weights of the last usable checkpoint; with
        a `kept_step` of 0 there was none, and the model is unusable. Raises UserError on SIGTERM, after writing a
        checkpoint of the last complete step.
        """
        self.resumed = resumed
        try:
            self.train(resume_from_checkpoint=str(resumed) if resumed else None)
        except DivergedError as error:
            self.end_diverged(error)
        finally:
            self.stop.at_once = True

    def check_loss(self) -> None:
        """Raise DivergedError, in every process, if the training loss of the step that ends is not finite.

        Raises UserError if it was that of the untrained model, which no learning rate can change.
        """
        if any_process(not self._tr_loss.isfinite().item()):
            step = self.state.global_step
            if step == 1:
                raise UserError("the loss of the untrained model is not finite", remedy="train in bf16 or fp32")
            raise DivergedError("loss was", step, unsound=step - 1)

    def check_weights(self) -> None:
        """Raise DivergedError, in every process, if a trained weight is not finite."""
        if any_process(not are_finite(self.model)):
            raise DivergedError("weights were", self.state.global_step, unsound=self.state.global_step)

    def end_diverged(self, error: DivergedError) -> None:
        """Load the best checkpoint, or else the newest usable one, and record the divergence."""
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        kept = 0
        for path in self.usable_checkpoints(error.unsound):
            self.state.best_model_checkpoint = str(path)
            self._load_best_model()
            if not any_process(not are_finite(self.model)):
                kept = step_of(path)
                break
        self.diverged = {"step": error.step, "kept_step": kept, "reason": str(error)}
        if self.is_world_process_zero():
            warn(f"{diverged_note({'diverged': self.diverged})}; {REMEDY}")

    def usable_checkpoints(self, unsound: int) -> list[Path]:
        """Return the valid checkpoints whose weights had a finite loss, the best first, then the newest.

        Those had one that were evaluated, and those before the step `unsound`, on which training continued.
        """
        evaluated = {row["step"] for row in self.state.log_history if "eval_loss" in row}
        with PartialState().main_process_first():
            known = [p for p in checkpoints_in(self.folder) if step_of(p) < unsound or step_of(p) in evaluated]
            return sorted(filter(trusted, known), key=lambda path: str(path) != self.best_checkpoint())

    def place_in_step(self) -> int:
        """Return the index of a micro-batch among this process's of the step; call it once per micro-batch."""
        step = self.state.global_step
        place = self.step_and_place[1] + 1 if self.step_and_place[0] == step else 0
        self.step_and_place = (step, place)
        return place

    def log(self, logs, start_time=None):
        """Log speed and memory with each training loss, and the loss per token of an evaluation."""
        if "eval_loss" in logs:
            logs |= self.evaluation()
            if not math.isfinite(logs["eval_loss"]):
                step = self.state.global_step
                raise DivergedError("validation loss was", step, unsound=step)
        if "loss" in logs:
            tokens, metrics = self.since_log()
            now = time.monotonic()
            seconds, self.logged_at = now - self.logged_at, now
            logs |= {**metrics, "seconds": round(seconds, 3), "memory_mb": peak_memory_mb()}
            logs["tokens_per_second"] = round(tokens / seconds, 1) if seconds else None
        super().log(logs, start_time)

    def on_train_begin(self, *_, **__) -> None:
        """Restore what transformers does not: sums since the last log, best checkpoint, an interrupted evaluation."""
        self.stop.at_once = False
        if self.resumed is None:
            return
        self.saved = self.resumed.name
        self.state.best_model_checkpoint = self.best_checkpoint()
        since = read_json(self.resumed / SINCE_LOG)
        self._globalstep_last_logged = since["logged_step"]
        self._tr_loss.fill_(since["loss"])
        self.set_sums(since["sums"])
        if since["evaluation_due"]:
            self._load_rng_state(str(self.resumed))
            self.control.should_evaluate = self.control.should_save = True
            self._maybe_log_save_evaluate(self._tr_loss, None, self.model, None, self.state.epoch, None, time.time())
            self.resumed = self.folder / checkpoint_name(self.state.global_step)

    def best_checkpoint(self) -> str | None:
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        return str(self.folder / checkpoint_name(best)) if best else None

    def _run_epoch(self, **options):
        """Train an epoch, unless the run has ended: transformers would take one step more than `max_steps`.

        After a resume with several processes, neither transformers nor accelerate sets the sampler's epoch.
        """
        self.updates_per_epoch = options["num_update_steps_per_epoch"]
        if self.order is not None:
            self.order.set_epoch(options["epoch"])
        if options["resume_from_checkpoint"] is not None:
            options["resume_from_checkpoint"] = str(self.resumed)
        if not self.control.should_training_stop and self.state.global_step < self.state.max_steps:
            super()._run_epoch(**options)

    def _maybe_log_save_evaluate(self, *arguments, **options):
        """Log, evaluate and save at the end of a step or an epoch; when asked to stop, save at once and stop.

        At the last step of an epoch, the checkpoint is saved after the evaluation. Raises DivergedError.
        """
        self.check_loss()
        stopping, due = any_process(self.stop.asked), self.control.should_evaluate
        step, by_epoch = self.state.global_step, self.args.eval_strategy == "epoch"
        if not due and by_epoch and (step >= self.state.max_steps or step % self.updates_per_epoch == 0):
            due, self.control.should_save = True, False  # the epoch ends with this step, with an evaluation
        if stopping:
            self.control.should_evaluate = self.control.should_save = False
        before = self.random_state()
        try:
            super()._maybe_log_save_evaluate(*arguments, **options)
        except EvaluationStoppedError:
            self.set_random_state(before)
            stopping = True
        if stopping:
            self.save_and_stop(due)
        if self.args.world_size == 1:
            self.last_step = (self.random_state(), self._tr_loss.clone(), self.sums())

    def may_stop_alone(self) -> bool:
        """Return whether to stop within a step; several processes stop together at its end."""
        return self.stop.asked and self.args.world_size == 1

    def on_substep_end(self, *_, **__) -> None:
        """When asked to stop, restore the state after the last step, save it, and stop."""
        if self.may_stop_alone():
            if self.last_step is not None:
                random_state, loss, sums = self.last_step
                self.set_random_state(random_state)
                self._tr_loss.copy_(loss)
                self.set_sums(sums)
            self.save_and_stop(due=False, anew=self.last_step is not None)

    def on_prediction_step(self, *_, **__) -> None:
        """When asked to stop, stop the evaluation."""
        if self.is_in_train and self.may_stop_alone():
            raise EvaluationStoppedError

    def save_and_stop(self, due: bool, anew: bool = True) -> None:
        """Save a checkpoint, unless this step has one, and raise the error that ends the training."""
        log.warning("%s: the training stops after step %d", self.stop.reason, self.state.global_step)
        if anew and self.saved not in (checkpoint_name(self.state.global_step, p) for p in ({due, False})):
            self._save_checkpoint(self.model, None, due)
        raise self.stop.error(self.state.global_step, self.state.max_steps)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load both; bitsandbytes' paged moments become ordinary tensors, although their file calls them paged.

        With several processes, each loads them directly into its GPU: such memory can't be paged, and CUDA fails on it.
        """
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            for moments in self.optimizer.state.values():
                for moment in moments.values():
                    if getattr(moment, "is_paged", False):
                        del moment.is_paged

    @staticmethod
    def random_state() -> tuple:
        devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return random.getstate(), numpy.random.get_state(), torch.get_rng_state(), devices

    @staticmethod
    def set_random_state(state: tuple) -> None:
        random.setstate(state[0])
        numpy.random.set_state(state[1])
        torch.set_rng_state(state[2])
        if state[3]:
            torch.cuda.set_rng_state_all(state[3])

    def _get_output_dir(self, trial):
        """Return the temporary folder where transformers saves; a complete checkpoint is then moved."""
        return str(self.folder / SAVING)

    def _save_checkpoint(self, model, trial, pending: bool = False):
        """Write a checkpoint atomically, and remove old ones.

        Raises UserError if it can't be written, for example on a full disk, and DivergedError if a weight is not
        finite; the previous one is kept.
        """
        self.check_weights()
        step, name = self.state.global_step, checkpoint_name(self.state.global_step, pending)
        beside = self.folder / SAVING / checkpoint_name(step)
        with unwritable(self.folder, step):
            if self.is_world_process_zero():
                shutil.rmtree(beside.parent, ignore_errors=True)
            self.accelerator.wait_for_everyone()
            super()._save_checkpoint(model, trial)
            loss = nested_gather(self._tr_loss, self.args.parallel_mode).mean().item()
            self.accelerator.wait_for_everyone()
            written, self.state.best_model_checkpoint = self.state.best_model_checkpoint, self.best_checkpoint()
            if self.is_world_process_zero():
                best = step_of(Path(self.state.best_model_checkpoint)) if self.state.best_model_checkpoint else None
                if self.state.best_model_checkpoint != written:  # transformers wrote a path in the temporary folder
                    self.state.save_to_json(str(beside / "trainer_state.json"))
                since = {"logged_step": self._globalstep_last_logged, "loss": loss, "sums": self.sums()}
                write_json(beside / SINCE_LOG, {**since, "evaluation_due": pending}, part=True)
                (beside / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing reads
                beside.rename(beside.with_name(name))
                finish_checkpoint(self.folder, name, step=step, best_step=best)
                remove_old(self.folder, self.args.save_total_limit, best)
            self.accelerator.wait_for_everyone()
        self.saved = name
