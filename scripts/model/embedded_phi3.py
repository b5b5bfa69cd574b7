"""The embedded Phi-3: one projection for queries, keys and values, and one for gate and up, as in Phi-3-mini."""


def new_phi3_model(shape: dict):
    """Return an untrained Phi-3; `shape` is that of the other embedded models.

    Its heads are as wide as hidden size and number of heads make them (llama.cpp takes no other width for it), and the
    context of its positions is stated, which the converter asks for.
    """
    from transformers import Phi3Config, Phi3ForCausalLM

    own = {key: value for key, value in shape.items() if key != "head_dim"}
    config = Phi3Config(**own, original_max_position_embeddings=shape["max_position_embeddings"], sliding_window=None)
    return Phi3ForCausalLM(config)
