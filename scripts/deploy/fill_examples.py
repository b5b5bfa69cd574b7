"""Fill the example programs of a bundle: their constants get the bundle's values."""

import re

QUESTION_LENGTH = 300


def filled(program: str, values: dict) -> str:
    """Return a program with the constants (`NAME = ...`, one line each) set to these values."""
    for name, value in values.items():
        line = f"{name} = {value!r}"
        program, count = re.subn(rf"(?m)^{name} = .*$", lambda _, line=line: line, program)
        if count != 1:
            raise ValueError(f"the example has {count} lines '{name} = ...', not one")
    return program


def sampling_of_llama_cpp(parameters: dict) -> dict:
    """Return the sampling parameters as `Llama.create_chat_completion` names them."""
    names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
    return {name: parameters[name] for name in names}


def sampling_of_transformers(parameters: dict) -> dict:
    """Return the sampling parameters as `generate` names them; temperature 0 is greedy."""
    penalty = {"repetition_penalty": parameters["repeat_penalty"]}
    if parameters["temperature"] == 0:
        return {"do_sample": False, **penalty}
    names = ("temperature", "top_p", "top_k", "min_p")
    return {"do_sample": True, **{name: parameters[name] for name in names}, **penalty}
