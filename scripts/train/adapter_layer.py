"""A faster pass through PEFT's LoRA layers, with the same numbers up to rounding.

PEFT adds the adapter in four steps over all outputs, and casts the inputs of a 16-bit base to float32 and back. Here
it is one function, which adds in place, keeps only its inputs and the rank's few features for the backward pass, and
computes the inputs' gradient only where something before them is trained.
"""

import types

import torch
from peft.tuners.lora.layer import Linear

ADAPTER = "default"


class AdaptedLinear(torch.autograd.Function):
    """x W^T + b + s (d A^T) B^T, with W and b frozen; d is x, or x after dropout, or None for x."""

    @staticmethod
    def forward(ctx, x, dropped, weight, bias, down, up, scaling: float):
        """x and dropped [..., inputs], weight [outputs, inputs], down [rank, inputs], up [outputs, rank]."""
        dtype = weight.dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        entry = rows if dropped is None else dropped.reshape(rows.shape).to(dtype)
        features = entry @ down.to(dtype).T
        features *= scaling
        result = torch.nn.functional.linear(rows, weight, bias)
        result.addmm_(features, up.to(dtype).T)
        ctx.save_for_backward(entry, features, weight, down, up)
        ctx.scaling, ctx.drops, ctx.shape, ctx.dtype = scaling, dropped is not None, x.shape, x.dtype
        return result.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx, grad):
        """Return the gradients of x, dropped, down and up."""
        entry, features, weight, down, up = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1]).to(weight.dtype)
        inner = grad @ up.to(grad.dtype)
        inner *= ctx.scaling
        grad_up, grad_down = (grad.T @ features).to(up.dtype), (inner.T @ entry).to(down.dtype)
        grad_x = grad_dropped = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight
            if not ctx.drops:
                grad_x.addmm_(inner, down.to(grad.dtype))
            grad_x = grad_x.view(ctx.shape).to(ctx.dtype)
        if ctx.drops and ctx.needs_input_grad[1]:
            grad_dropped = (inner @ down.to(grad.dtype)).view(ctx.shape).to(ctx.dtype)
        return grad_x, grad_dropped, None, None, grad_down, grad_up, None


def forward(self, x, *arguments, **options):
    """PEFT's `forward` of a LoRA layer with one adapter, which is neither merged nor disabled.

    PEFT's own computes a layer in another number format than the autocast's.
    """
    down, up, base = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight, self.base_layer
    device = x.device.type
    other = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) != base.weight.dtype
    if self.disable_adapters or self.merged or arguments or options or other:
        return type(self).forward(self, x, *arguments, **options)
    dropout = self.lora_dropout[ADAPTER]
    dropped = dropout(x) if self.training and isinstance(dropout, torch.nn.Dropout) else None
    return AdaptedLinear.apply(x, dropped, base.weight, base.bias, down, up, self.scaling[ADAPTER])


def speed_up_adapter(model) -> int:
    """Replace the passes of the LoRA layers whose kind this module computes; return their number.

    Other layers keep PEFT's own pass: those over 4-bit weights, with DoRA or LoRA biases, or with a trained base.
    """
    count = 0
    for module in model.modules():
        if type(module) is not Linear or type(module.base_layer) is not torch.nn.Linear or module.lora_variant:
            continue
        if list(module.lora_A) != [ADAPTER] or module.lora_B[ADAPTER].bias is not None or module.fan_in_fan_out:
            continue
        if any(parameter.requires_grad for parameter in module.base_layer.parameters()):
            continue
        module.forward = types.MethodType(forward, module)
        count += 1
    return count
