"""Training where each process holds a shard of the weights (FSDP), loaded by transformers.

transformers 5.23 loads, trains and saves such a model, but does not save its optimizer's state, and therefore refuses
to save checkpoints. For an adapter, each process has the complete state. If all weights are trained, this module
gathers it for a checkpoint, and shards it again on resume.
"""

from pathlib import Path

import torch
from accelerate import PartialState
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
SHARDED = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
OPTIMIZER, SCHEDULER = "optimizer.pt", "scheduler.pt"


def is_sharded(model) -> bool:
    """Return whether processes hold shards of this model's weights."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def trains_shards(model) -> bool:
    """Return whether a process trains its shard of the weights; with an adapter, each process trains all of it."""
    return is_sharded(model) and all(parameter.requires_grad for parameter in model.parameters())


def are_finite(model) -> bool:
    """Return whether this process's trained weights, or its shards of them, are all finite.

    Their extremes tell it without a copy; they are NaN if a weight is.
    """
    trained = [weight.detach() for weight in model.parameters() if weight.requires_grad]
    own = [weight.to_local() if isinstance(weight, DTensor) else weight for weight in trained]
    extremes = [extreme.float() for weight in own if weight.numel() for extreme in weight.aminmax()]
    return not extremes or bool(torch.stack(extremes).isfinite().all())


def reshard(model) -> None:
    """Reshard weights that a forward pass has gathered.

    An attribute set on a gathered weight, such as requires_grad, is not set on its shards.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def adapter_weights(model) -> dict | None:
    """Return an adapter's weights over a sharded base; None for other models. PEFT would gather the base too."""
    if not is_sharded(model) or trains_shards(model):
        return None
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Sharded:
    """Mixin for a trainer: checkpoints of a model with sharded trained weights."""

    def __init__(self, *arguments, **options):
        model, settings = options["model"], options["args"]
        settings.save_only_model = is_sharded(model)
        super().__init__(*arguments, **options)
        settings.save_only_model = False

    def _save(self, output_dir=None, state_dict=None) -> None:
        super()._save(output_dir, adapter_weights(self.model) if state_dict is None else state_dict)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not trains_shards(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = get_optimizer_state_dict(self.model, self.optimizer.optimizer, options=WHOLE)
        if PartialState().is_main_process:
            torch.save(state, Path(output_dir) / OPTIMIZER)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not trains_shards(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER, weights_only=True) if PartialState().is_main_process else {}
        set_optimizer_state_dict(self.model, self.optimizer.optimizer, state, options=SHARDED)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        if trains_shards(self.model):
            load_shards(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if trains_shards(self.model):
            load_shards(self.model, Path(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()


def load_shards(model, checkpoint: Path) -> None:
    """Give each process its shard of a checkpoint's weights; the first process reads them."""
    from safetensors.torch import load_file

    files = sorted(checkpoint.glob("*.safetensors")) if PartialState().is_main_process else []
    weights = {name: tensor for file in files for name, tensor in load_file(file).items()}
    set_model_state_dict(model, weights, options=SHARDED)


def whole_model(model):
    """Return the model with all trained weights on the CPU in the first process; None in the others.

    Every process must call this. A model whose weights are not sharded is returned unchanged.
    """
    if not trains_shards(model):
        return model if PartialState().is_main_process else None
    weights = get_model_state_dict(model, options=WHOLE)
    if not PartialState().is_main_process:
        return None
    kind = next(base for base in type(model).__mro__ if not issubclass(base, FSDPModule))
    model.config.distributed_config = None
    with torch.device("meta"):
        whole = kind(model.config)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    whole.generation_config = model.generation_config
    return whole
