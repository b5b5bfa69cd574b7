"""Answers and likelihoods of llama.cpp, where the beginning that prompts share is evaluated once."""

import pytest

from scripts.gguf.llama import open_gguf
from scripts.predict.llama_readers import TextReader
from scripts.predict.predict_with_llama import answer_prompt, measure_likelihood
from scripts.predict.prompts import Prompt
from tests.support.training import run_settings

SYSTEM = {"role": "system", "content": "Tu commentes un match en direct."}
SHOWN = [{"role": "user", "content": "Minute 1."}, {"role": "assistant", "content": "Le match commence."}]
GENERATION = run_settings(generation={"max_new_tokens": 8})["generation"]


def prompt(question: str, before: list[dict] = SHOWN) -> Prompt:
    messages = [SYSTEM, *before, {"role": "user", "content": question}]
    return Prompt("test", question, messages, "But de la tête.", None)


PROMPTS = [prompt(question) for question in ("Minute 3 : but.", "Minute 3 : but.", "0", "0")] + [prompt("Corner.", [])]


def answers(path, prompts) -> list[dict]:
    with open_gguf(path, context=256, threads=1) as model:
        reader = TextReader()
        rows = [answer_prompt(model, reader, asked.messages, GENERATION, seed=1) for asked in prompts]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def likelihoods(path, prompts) -> tuple[list[dict], list[int]]:
    """Return the likelihoods, and the beginning that was kept for the next prompt."""
    reader = TextReader()
    with open_gguf(path, context=256, threads=1, logits_all=True) as model:
        return measure_likelihood(model, reader, prompts), reader.prefix


def test_an_answer_does_not_depend_on_the_prompts_before_it(tiny_gguf):
    assert answers(tiny_gguf, PROMPTS) == [answers(tiny_gguf, [asked])[0] for asked in PROMPTS]


def test_the_shared_beginning_is_evaluated_once(tiny_gguf, monkeypatch):
    evaluated = []
    with open_gguf(tiny_gguf, context=256, threads=1) as model:
        evaluate = model.eval
        monkeypatch.setattr(model, "eval", lambda ids: (evaluated.append(len(ids)), evaluate(ids)))
        reader = TextReader()
        rests = [reader.read(model, asked.messages) for asked in PROMPTS[:2]]
        whole = reader.count(model, PROMPTS[0].messages)
    assert evaluated == [whole - len(rests[0])]
    assert 0 < len(rests[0]) < whole / 2


@pytest.mark.parametrize("cut", ["llama_model_n_swa", "llama_model_is_recurrent"])
def test_likelihoods_are_those_of_whole_prompts(tiny_gguf, monkeypatch, cut):
    shared, kept = likelihoods(tiny_gguf, PROMPTS)
    # A model whose cache can't be cut back reads every prompt whole.
    import llama_cpp

    monkeypatch.setattr(llama_cpp, cut, lambda weights: 64)
    whole, kept_of_whole = likelihoods(tiny_gguf, PROMPTS)
    assert kept
    assert not kept_of_whole
    assert [row["nll"] for row in shared] == pytest.approx([row["nll"] for row in whole], rel=1e-3)
    assert [row["tokens"] for row in shared] == [row["tokens"] for row in whole]
