"""The loss of a causal language model, with logits only where a token is trained, and never all of them at once.

A block of logits is computed, its loss and the gradient of its hidden states follow at once, and the logits are
dropped: the backward pass computes no logits again. The idea is that of Liger's fused linear cross entropy
(https://arxiv.org/abs/2410.10989). A model whose logits are computed in another way than here keeps its own.
"""

import functools
import types
from typing import NamedTuple

import torch
from torch.distributed.tensor import DTensor

from scripts.common.chat import IGNORED

BLOCK = 2**23  # logits at a time on a CPU: 32 MiB in float32
TILE = 1024  # positions with logits at a time on a GPU, as scripts/workflow/memory/estimate.py has it
# Factors of the logits by the name that architectures' configurations give them (Cohere, Muse Glimmer, Falcon-H1), and
# divisors (Granite, MiniCPM3; HyperCLOVA X multiplies by it); the caps of Gemma 2 and of RecurrentGemma.
FACTORS, DIVISOR = ("logit_scale", "output_multiplier", "lm_head_multiplier"), "logits_scaling"
CAPS = ("final_logit_softcapping", "logits_soft_cap")
SAME = 0.02  # of the largest logit; 16-bit numbers round to 0.4 %


class LossSums(NamedTuple):
    """Sums over the trained tokens of a batch: negative log likelihood in nats, entropy in nats, and right guesses.

    `balance` is the mean load-balancing loss of a mixture of experts, weighted; None for other models.
    """

    loss: torch.Tensor
    entropy: torch.Tensor
    right: torch.Tensor
    tokens: torch.Tensor
    balance: torch.Tensor | None


class TokenLoss(torch.autograd.Function):
    """The summed negative log likelihood of targets [tokens] under hidden @ weight.T + bias.

    hidden [tokens, size], weight [vocabulary, size], bias [vocabulary] or None; `factor` and `cap` as for `scaled`. The
    logits and the softmax are in float32. Returns the loss, the summed entropy and the number of tokens whose likeliest
    guess is right; only the loss has a gradient.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, factor: float, cap: float | None):
        """Compute the loss, and with it the gradients if some are wanted."""
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        computed = torch.get_autocast_dtype(hidden.device.type)
        dtype = computed if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
        matrix = weight.to(dtype)
        loss, entropy, right = (hidden.new_zeros((), dtype=torch.float64) for _ in range(3))
        grads = (
            torch.empty_like(hidden) if wants_hidden else None,
            torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None,
            torch.zeros_like(bias, dtype=torch.float32) if wants_bias else None,
        )
        step = TILE if hidden.is_cuda else max(BLOCK // len(weight), 1)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), step):
                part, wanted = hidden[start : start + step].to(dtype), targets[start : start + step, None]
                logits = scaled(part, matrix, bias, factor, cap)
                aimed, slope = logits.gather(1, wanted), None
                right += (logits.argmax(1, keepdim=True) == wanted).sum()
                if cap is not None and any(ctx.needs_input_grad[:3]):
                    slope = 1 - (logits / cap) ** 2
                total = logits.logsumexp(1, keepdim=True)
                loss += (total - aimed).double().sum()
                chance = (logits - total).exp_()
                entropy += total.double().sum() - (logits.mul_(chance)).sum(1).double().sum()
                if not any(ctx.needs_input_grad[:3]):
                    continue
                chance.scatter_add_(1, wanted, chance.new_full(wanted.shape, -1.0))
                if slope is not None:
                    chance *= slope
                if factor != 1.0:
                    chance *= factor
                if wants_bias:
                    grads[2].add_(chance.sum(0))
                slopes = chance.to(dtype)
                if wants_hidden:
                    grads[0][start : start + step] = slopes @ matrix
                if wants_weight:
                    grads[1].add_(slopes.T @ part)
        ctx.grads = grads
        ctx.mark_non_differentiable(entropy, right)
        return loss, entropy, right

    @staticmethod
    def backward(ctx, grad_loss, *_):
        """Scale the gradients that the forward pass computed."""
        grads, ctx.grads = ctx.grads, None
        return *(None if grad is None else grad.mul_(grad_loss.to(grad.dtype)) for grad in grads), None, None, None


def scaled(hidden, weight, bias, factor: float, cap: float | None) -> torch.Tensor:
    """Return the logits [tokens, vocabulary] in float32, multiplied by `factor`, then capped softly at `cap` if any."""
    logits = (hidden @ weight.T).float()
    if bias is not None:
        logits += bias.float()
    if factor != 1.0:
        logits *= factor
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)


def add_loss_sums(model) -> bool:
    """Let `model(..., labels=labels, loss_sums=True)` return `LossSums` instead of logits.

    `model` is a causal language model of transformers, before PEFT wraps it. Call it in this way through every wrapper:
    FSDP and DDP act on the call. A mixture of experts adds its load-balancing loss, as its own forward pass does.
    Returns whether logits are computed only where a token is trained; every process must call this.
    """
    plain, config = model.forward, model.config.get_text_config()
    factor, cap = logit_factor(config), logit_cap(config)
    weight_of_balance = getattr(config, "router_aux_loss_coef", 0.0) if hasattr(config, "output_router_logits") else 0.0
    known = has_these_logits(model, factor, cap)

    @functools.wraps(type(model).forward)  # transformers reads the names of a model's arguments
    def forward(self, *arguments, loss_sums: bool = False, **options):
        if not loss_sums:
            return plain(*arguments, **options)
        labels = options.pop("labels")[:, 1:]
        trained = labels != IGNORED
        if weight_of_balance:
            options["output_router_logits"] = True
        if not known:
            outputs = plain(*arguments, **options, use_cache=False)
            balance = getattr(outputs, "aux_loss", None)
            balance = None if balance is None else weight_of_balance * balance
            return LossSums(*plain_sums(outputs.logits[:, :-1][trained], labels[trained]), trained.sum(), balance)
        outputs = self.base_model(*arguments, **options, use_cache=False)
        layer = self.get_output_embeddings()
        weight, bias = (whole(each) for each in (layer.weight, layer.bias))
        if not torch.is_grad_enabled():  # an evaluation, whose gradients TokenLoss would compute
            weight, bias = weight.detach(), None if bias is None else bias.detach()
        hidden = outputs.last_hidden_state[:, :-1][trained]
        sums = TokenLoss.apply(hidden, weight, bias, labels[trained], factor, cap)
        balance = weight_of_balance * balance_of(self, config, outputs, options) if weight_of_balance else None
        return LossSums(*sums, trained.sum(), balance)

    model.forward = types.MethodType(forward, model)
    return known


def plain_sums(logits, targets) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what `TokenLoss` does, of the logits [tokens, vocabulary] that a model has computed."""
    chances = logits.float().log_softmax(1)
    loss = -chances.gather(1, targets[:, None]).double().sum()
    chances = chances.detach()
    return loss, -(chances.exp() * chances).double().sum(), (chances.argmax(1) == targets).sum()


@torch.no_grad()
def has_these_logits(model, factor: float, cap: float | None) -> bool:
    """Return whether a model's logits are `scaled` by its output layer's weights, tried on a few tokens."""
    layer, vocabulary = model.get_output_embeddings(), model.config.get_text_config().vocab_size
    if model.base_model is model or not hasattr(layer, "weight") or layer.weight.ndim != 2:
        return False
    ids = torch.randint(0, vocabulary, (1, 12), generator=torch.Generator().manual_seed(0))
    was_training = model.training
    model.eval()
    outputs = model(input_ids=ids.to(model.device), use_cache=False, output_hidden_states=True)
    model.train(was_training)
    hidden, logits = outputs.hidden_states[-1], outputs.logits.float()
    weight, bias = whole(layer.weight).to(hidden.dtype), whole(getattr(layer, "bias", None))
    if weight.shape != (logits.shape[-1], hidden.shape[-1]):
        return False
    return bool((scaled(hidden, weight, bias, factor, cap) - logits).abs().max() <= SAME * logits.abs().max())


def logit_factor(config) -> float:
    """Return the factor that an architecture applies to its logits."""
    for name in FACTORS:
        if (factor := getattr(config, name, None)) is not None:
            return factor
    divisor = getattr(config, DIVISOR, None)
    if divisor is None:
        return 1.0
    return divisor if config.model_type == "hyperclovax" else 1 / divisor


def logit_cap(config) -> float | None:
    """Return the soft cap that an architecture applies to its logits after the factor, if any."""
    return next((cap for cap in (getattr(config, name, None) for name in CAPS) if cap is not None), None)


def balance_of(model, config, outputs, options: dict) -> torch.Tensor:
    """Return the load-balancing loss of a mixture of experts; every such model of transformers has Mixtral's."""
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    experts = getattr(model, "num_experts", None) or getattr(config, "num_local_experts", None) or config.num_experts
    return load_balancing_loss_func(
        outputs.router_logits, experts, config.num_experts_per_tok, options.get("attention_mask")
    )


def whole(tensor):
    """Return a tensor that several processes hold shards of as a whole; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
