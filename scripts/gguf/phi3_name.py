"""The one thing that llama.cpp takes from a model's name: whether white space after a special token is dropped.

Phi-3's special tokens swallow the line end that its chat template writes after them (`rstrip` in tokenizer.json). A
GGUF has no entry for that; llama.cpp does it for every model whose `general.name` holds "phi-3" or "phi3", and for no
other (src/llama-vocab.cpp). So the name has to say what the tokenizer does.
"""

import re

PHI3 = re.compile(r"phi-?3", re.IGNORECASE)


def swallows_space(tokenizer) -> bool:
    """Tell whether special tokens of a chat drop the white space after them."""
    return any(token.special and token.rstrip for token in tokenizer.added_tokens_decoder.values())


def name_for_llama_cpp(name: str, tokenizer) -> tuple[str, str | None]:
    """Return `general.name` as llama.cpp needs it, and a line that says so where it had to be changed."""
    swallows = swallows_space(tokenizer)
    if swallows == bool(PHI3.search(name)):
        return name, None
    if swallows:
        reason = "the special tokens drop white space after them, which llama.cpp does for this name only"
        changed = f"{name} (Phi-3)"
    else:
        reason = "for a name with Phi-3 llama.cpp drops white space after special tokens, which this tokenizer does not"
        changed = PHI3.sub("Phi 3", name)
    return changed, f"general.name is '{changed}', not '{name}': {reason}"
