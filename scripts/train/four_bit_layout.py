"""4-bit weights that stay as they are, whatever is computed with them."""


def keep_layout(model):
    """Keep bitsandbytes from storing 4-bit weights otherwise at the first evaluation, and return the model.

    On a CPU with AVX512-BF16 it packs them anew for inference and rounds their scales to bf16 on the way, and what is
    trained after an evaluation is trained over another base: a run that was resumed then differs from one that wasn't.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model
