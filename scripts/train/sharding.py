"""Training where each process holds a share of the weights (FSDP), by transformers' own loading of shares.

transformers 5.23 loads, trains and saves such a model, but no state of its optimizer, and so refuses to save
checkpoints at all. Beside an adapter that state is whole in each process, and nothing is amiss. Where all weights are
trained it is gathered here for a checkpoint, and shared out again.
"""

from pathlib import Path

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from scripts.train.world import is_first

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
SHARED_OUT = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"


def is_sharded(model) -> bool:
    """Tell whether processes hold shares of this model's weights."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def trains_shares(model) -> bool:
    """Tell whether a process trains its share of the weights; an adapter is trained whole in each."""
    return is_sharded(model) and all(parameter.requires_grad for parameter in model.parameters())


def share_out(model) -> None:
    """Give up weights that a forward pass has left whole.

    What is set of a weight that is whole for a while (that it is frozen, above all) is not set of its shares.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def adapter_weights(model) -> dict | None:
    """Return the weights that PEFT is to save of an adapter over a sharded base; it would gather the base as well.

    None for other models: PEFT knows best.
    """
    if not is_sharded(model) or trains_shares(model):
        return None
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Sharded:
    """Mixed into a trainer: checkpoints of a model whose trained weights are shared out."""

    def __init__(self, *arguments, **options):
        model, settings = options["model"], options["args"]
        share_out(model)
        settings.save_only_model = is_sharded(model)
        super().__init__(*arguments, **options)
        settings.save_only_model = False

    def _save(self, output_dir=None, state_dict=None) -> None:
        super()._save(output_dir, adapter_weights(self.model) if state_dict is None else state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not trains_shares(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=WHOLE)
        if is_first():
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not trains_shares(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER, weights_only=True) if is_first() else {}
        set_optimizer_state_dict(self.model, self.optimizer.optimizer, state, options=SHARED_OUT)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if trains_shares(self.model):
            load_shares(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if trains_shares(self.model):
            load_shares(self.model, Path(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()


def load_shares(model, checkpoint: Path) -> None:
    """Give each process its share of a checkpoint's weights; the first process reads them."""
    from safetensors.torch import load_file

    files = sorted(checkpoint.glob("*.safetensors")) if is_first() else []
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    set_model_state_dict(model, weights, options=SHARED_OUT)


def whole_model(model):
    """Return the model in the first process, all its trained weights there and on the CPU; None in the others.

    Every process has to call it. A model of which each process trained all weights is returned as it is.
    """
    if not trains_shares(model):
        return model if is_first() else None
    weights = get_model_state_dict(model, options=WHOLE)
    if not is_first():
        return None
    kind = next(base for base in type(model).__mro__ if not issubclass(base, FSDPModule))
    model.config.distributed_config = None
    with torch.device("meta"):
        whole = kind(model.config)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    whole.generation_config = model.generation_config
    return whole
