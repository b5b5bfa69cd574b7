"""Answers and likelihoods of llama.cpp, where the beginning that prompts share is evaluated once."""

import llama_cpp
import pytest
import torch

from scripts.gguf.llama import open_gguf
from scripts.predict.answers import AnswerFile
from scripts.predict.llama_readers import TextReader
from scripts.predict.predict_with_llama import answer_prompt, answer_prompts, likelihood
from scripts.predict.prompts import Prompt
from tests.support.gguf_files import changed
from tests.support.training import run_settings

SYSTEM = {"role": "system", "content": "Tu commentes un match en direct."}
SHOWN = [{"role": "user", "content": "Minute 1."}, {"role": "assistant", "content": "Le match commence."}]
GENERATION = run_settings(generation={"max_new_tokens": 8})["generation"]


def prompt(question: str, before: list[dict] = SHOWN) -> Prompt:
    messages = [SYSTEM, *before, {"role": "user", "content": question}]
    return Prompt("test", question + str(len(before)), messages, "But de la tête.", None)


PROMPTS = [prompt(question) for question in ("Minute 3 : but.", "Minute 3 : but.", "0", "0")] + [prompt("Corner.", [])]


def answers(path, prompts) -> list[dict]:
    with open_gguf(path, context=256, threads=1) as model:
        reader = TextReader()
        rows = [answer_prompt(model, reader, asked.messages, GENERATION, seed=1) for asked in prompts]
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def likelihoods(path, prompts, folder, answered=()) -> tuple[list[dict], list[int]]:
    """Return the likelihoods, and the beginning that was kept for the next prompt; `answered` have answers already."""
    reader, file = TextReader(), AnswerFile(folder / "answers.jsonl", {})
    for asked in answered:
        file.add(asked, {"answer": ""})
    with open_gguf(path, context=256, threads=1) as model:
        return answer_prompts(model, reader, prompts, file, GENERATION), reader.prefix


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


@pytest.fixture(scope="module")
def shared(tiny_gguf, tmp_path_factory):
    return likelihoods(tiny_gguf, PROMPTS, tmp_path_factory.mktemp("shared"))


def nll_of_whole(model, asked) -> float:
    """Evaluate a conversation with its answer from an empty cache; return the answer's negative log likelihood."""
    reader = TextReader()
    ids = reader.tail(model, asked.answered)
    start = reader.count(model, asked.messages)
    model.reset()
    model.eval(ids)
    logits = torch.from_numpy(model.scores[start - 1 : len(ids) - 1]).double()
    return -logits.log_softmax(-1).gather(1, torch.tensor(ids[start:])[:, None]).sum().item()


@pytest.mark.parametrize("cut", [None, "llama_model_n_swa", "llama_model_is_recurrent"])
def test_likelihoods_are_those_of_whole_conversations(tiny_gguf, tmp_path, monkeypatch, cut, shared):
    # The converter here makes no model with a sliding window or a recurrent state. Only llama.cpp's statement about the
    # model is replaced: tokens can't be removed from the cache then, and every prompt is evaluated whole.
    if cut:
        monkeypatch.setattr(llama_cpp, cut, lambda weights: 64)
    found, kept = likelihoods(tiny_gguf, PROMPTS, tmp_path) if cut else shared
    assert bool(kept) is (cut is None)
    with open_gguf(tiny_gguf, context=256, threads=1, logits_all=True) as model:
        assert [row["nll"] for row in found] == pytest.approx([nll_of_whole(model, p) for p in PROMPTS], rel=1e-3)


def test_likelihoods_are_the_same_after_an_interruption(tiny_gguf, tmp_path, shared):
    assert likelihoods(tiny_gguf, PROMPTS, tmp_path, answered=PROMPTS[1:4]) == shared


def test_a_template_that_renders_answered_questions_differently(tiny_gguf, tmp_path):
    """The tokens of the conversation with its answer then take the place of the shared beginning."""
    template = (
        "{{ bos_token }}[{{ messages | length }}]{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
    )
    path = changed(tiny_gguf, tmp_path / "other.gguf", {"tokenizer.chat_template": template})
    evaluated = []
    with open_gguf(path, context=256, threads=1) as model:
        reader = TextReader()
        for asked in PROMPTS[:2]:
            rest = reader.read(model, asked.messages)
            whole = reader.tail(model, asked.messages)
            evaluated.append([*model.input_ids[: model.n_tokens].tolist(), *rest] == whole)
            likelihood(model, reader, asked, evaluated=False)
    assert evaluated == [True, True]
