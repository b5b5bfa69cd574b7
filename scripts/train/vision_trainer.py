"""The trainer with learning rates of their own for parts of the model."""

import torch

from scripts.train.trainer import Trainer


class VisionTrainer(Trainer):
    """The trainer of vision runs; `part_rates` are peak learning rates by the name of the part that has its own."""

    def __init__(self, *arguments, part_rates: dict[str, float], **options):
        self.part_rates = part_rates
        super().__init__(*arguments, **options)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """Make the optimizer; parts with a rate of their own become groups of their own, under the same schedule."""
        made = self.optimizer is not None
        optimizer = super().create_optimizer(model)
        if not made:
            names = {parameter: name for name, parameter in (model or self.model).named_parameters()}
            optimizer.param_groups[:] = groups_by_part(optimizer.param_groups, names, self.part_rates)
        return optimizer


def groups_by_part(groups: list[dict], names: dict, rates: dict[str, float]) -> list[dict]:
    """Return the parameter groups, those of each part apart and at its rate; the parts come last.

    `names` are the parameters' names, `rates` the learning rates by part, where `x.y` is in the name of what is in it.
    """

    def part_of(parameter) -> str | None:
        return next((part for part in rates if f".{part}." in f".{names[parameter]}"), None)

    result = []
    for part in (None, *rates):
        for group in groups:
            parameters = [parameter for parameter in group["params"] if part_of(parameter) == part]
            rate = {} if part is None else {"lr": rates[part]}
            if parameters or part is None:
                result.append({**group, **rate, "params": parameters})
    return result
