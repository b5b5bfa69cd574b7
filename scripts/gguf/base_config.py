"""Make config.json and generation_config.json of a Llama or Mistral from the metadata of its GGUF file.

This reverses `LlamaModel` in conversion/llama.py and `TextModel.set_gguf_parameters` in conversion/base.py of
llama.cpp.
"""

import numpy

from scripts.common.errors import UserError
from scripts.gguf.base_tokenizer import PREFIX
from scripts.gguf.reader import TOKENS, GgufFile

ARCHITECTURE = "llama"  # GGUF files use this name for Mistral models too
CLASSES = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}
FREQUENCIES, OUTPUT = "rope_freqs.weight", "output.weight"
# Parameters of Llama 3.1 to 3.3; a file has only the resulting factors.
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


def check_architecture(file: GgufFile) -> None:
    """Raise UserError for a model that is neither a Llama nor a Mistral, or that has experts or biases."""
    if file.architecture != ARCHITECTURE:
        raise UserError(
            f"has the architecture '{file.architecture}'; a base from a GGUF file has '{ARCHITECTURE}', the name for "
            "Llama and Mistral models",
            file.path,
        )
    if file.of("expert_count", 0):
        raise UserError(f"is a mixture of {file.of('expert_count')} experts, which is not supported", file.path)
    for key in ("attention.scale", "attention.clamp_kqv", "logit_scale", "embedding_scale", "residual_scale"):
        if file.of(key, 0.0) not in (0.0, 1.0):
            raise UserError(f"has '{key}', which is not supported", file.path)
    for key in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        if isinstance(file.of(key), list):
            raise UserError(f"has another '{key}' for each layer, which is not supported", file.path)
    if TOKENS not in file.values or not file.tensors:
        raise UserError(f"has no {'weights' if TOKENS in file.values else f'vocabulary ({TOKENS})'}", file.path)
    biased = next((tensor.name for tensor in file.tensors if tensor.name.endswith(".bias")), None)
    if biased:
        raise UserError(f"has biases ('{biased}'), which are not supported", file.path)


def short(number: float) -> float:
    """Return the shortest decimal number with the same 32-bit value, such as 1e-05 for 9.999999747378752e-06."""
    return float(str(numpy.float32(number)))


def model_config(file: GgufFile, architecture: str) -> dict:
    """Return the content of config.json; `architecture` is `llama` or `mistral`."""
    check_architecture(file)
    heads, width = file.of("attention.head_count"), file.of("embedding_length")
    config = {
        "architectures": [CLASSES[architecture]],
        "model_type": architecture,
        "vocab_size": len(file.values[TOKENS]),
        "hidden_size": width,
        "intermediate_size": file.of("feed_forward_length"),
        "num_hidden_layers": file.of("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.of("attention.head_count_kv", heads),
        "head_dim": file.of("attention.key_length", width // heads),
        "hidden_act": "silu",
        "max_position_embeddings": file.of("context_length"),
        "rms_norm_eps": short(file.of("attention.layer_norm_rms_epsilon")),
        "rope_parameters": rope_parameters(file),
        "tie_word_embeddings": all(tensor.name != OUTPUT for tensor in file.tensors),
        "attention_dropout": 0.0,
        "dtype": "bfloat16",
        **token_ids(file),
    }
    # llama.cpp computes without a sliding window, although Mistral 7B v0.1 was trained with one.
    return config | ({"sliding_window": None} if architecture == "mistral" else {})


def token_ids(file: GgufFile) -> dict[str, int]:
    """Return the ids of the special tokens that a configuration lists."""
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    ids = {name: file.values.get(f"{PREFIX}{key}_token_id") for name, key in names.items()}
    return {name: token for name, token in ids.items() if token is not None}


def generation_config(file: GgufFile) -> dict:
    """Return the content of generation_config.json; end-of-turn tokens end an answer, as EOS does."""
    ids = token_ids(file)
    ends = [ids.get("eos_token_id"), *(file.values.get(f"{PREFIX}{name}_token_id") for name in ("eot", "eom"))]
    ends = list(dict.fromkeys(token for token in ends if token is not None))
    return ids | ({"eos_token_id": ends[0] if len(ends) == 1 else ends} if ends else {})


def rope_parameters(file: GgufFile) -> dict:
    """Return the parameters of rotary positions; raises UserError for a scaling that is not linear or Llama 3's."""
    parameters = {"rope_type": "default", "rope_theta": short(file.of("rope.freq_base", 10000.0))}
    # llama.cpp's defaults: a factor without a type is linear, and older files use another key for it.
    kind = file.of("rope.scaling.type", "linear")
    factor = file.of("rope.scaling.factor", file.of("rope.scale_linear", 1.0))
    tensor = next((tensor for tensor in file.tensors if tensor.name == FREQUENCIES), None)
    if kind not in ("none", "linear") or (tensor and kind == "linear" and factor != 1.0):
        raise UserError(f"has position scaling '{kind}'; only 'linear' and Llama 3's are supported", file.path)
    if tensor:
        return llama3_parameters(file, numpy.frombuffer(file.data(tensor), numpy.float32), parameters)
    if kind == "linear" and factor != 1.0:
        return parameters | {"rope_type": "linear", "factor": short(factor)}
    return parameters


def llama3_parameters(file: GgufFile, found: numpy.ndarray, parameters: dict) -> dict:
    """Return the parameters for the file's frequency factors; raises UserError if these are not Llama 3's."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled = parameters | {"rope_type": "llama3", "factor": round(float(max(found)), 3), **LLAMA3}
    context = 2 * LLAMA3["original_max_position_embeddings"]  # any longer one
    config = LlamaConfig(head_dim=2 * len(found), rope_parameters=scaled, max_position_embeddings=context)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    unscaled = parameters["rope_theta"] ** -(numpy.arange(len(found)) / len(found))
    if not numpy.allclose(unscaled / frequencies.numpy(), found, rtol=1e-3, atol=0):
        raise UserError(f"'{FREQUENCIES}' has other factors than Llama 3.1 to 3.3 have", file.path)
    return scaled
