"""Peak memory of a training step, traced on tensors that have shapes and no contents: no GPU and no time is needed.

Every operator runs as it would, autograd and PEFT included, on fake tensors; each storage counts from its first sight
to its last reference. So a 24B model is traced in seconds on a laptop.
"""

import weakref

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from scripts.config.runs import Run
from scripts.workflow.memory.shapes import Shape


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of live storages (`live`) and the most that there were (`peak`)."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self.seen = weakref.WeakSet()

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once and until it is gone."""
        storage = tensor.untyped_storage()
        if storage not in self.seen:
            self.seen.add(storage)
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.forget, storage.nbytes())

    def forget(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor)
        return result


def shaped_model(shape: Shape, run: Run):
    """Return the text model of a shape on the meta device, with the run's adapter."""
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralModel

    config = MistralConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size, sliding_window=None,
    )  # fmt: skip
    with torch.device("meta"):
        model = MistralModel._from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16)
    if run.method == "head":
        return model.requires_grad_(False).eval()
    if run.method == "lora":
        adapter = {"r": run.lora.r, "lora_alpha": run.lora.alpha, "lora_dropout": run.lora.dropout}
        model = get_peft_model(model, LoraConfig(**adapter, target_modules="all-linear"), low_cpu_mem_usage=True)
    if run.training.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model.train()


def traced_peak(shape: Shape, run: Run) -> int:
    """Return the most bytes in a backward pass with weights, gradients and the optimizer's state there.

    Two backward passes make an optimizer step; the last pass of the second step is looked at. For the methods lora
    (16-bit base), full and head; the output layer and the vision tower are not run.
    """
    model = shaped_model(shape, run)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        optimizer = torch.optim.AdamW(trained) if trained else None
        bytes_ = LiveBytes()
        for tensor in [*model.parameters(), *model.buffers()]:
            bytes_.note(tensor)
        ids = torch.zeros((run.training.micro_batch, run.tokens.max_length), dtype=torch.long)
        with bytes_:
            for backward in range(4):
                bytes_.peak = bytes_.live
                with torch.autocast("cpu", dtype=torch.bfloat16), torch.set_grad_enabled(bool(trained)):
                    loss = model(input_ids=ids, use_cache=False).last_hidden_state.float().mean()
                if trained:
                    loss.backward()
                    if backward == 1:
                        optimizer.step()
                        optimizer.zero_grad()
    return bytes_.peak
