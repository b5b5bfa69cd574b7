"""Prompts that llama.cpp answers in batches: as one after the other but for rounding, and the same after a kill."""

import json
from dataclasses import replace

import llama_cpp
import numpy
import pytest

from scripts.common.errors import UserError
from scripts.common.files import read_jsonl
from scripts.gguf import llama_sequences
from scripts.gguf.llama import open_gguf
from scripts.gguf.llama_sequences import open_sequences
from scripts.predict import predict_with_llama
from scripts.predict.answers import AnswerFile
from scripts.predict.llama_batches import Answer, Batch
from scripts.predict.llama_readers import TextReader
from scripts.predict.prompts import test_prompts as prompts_in
from tests.support.dataset_steps import write_lines
from tests.support.training import run_settings

SYSTEM = {"role": "system", "content": "Tu commentes un match en direct, en deux phrases."}
QUESTIONS = [f"Minute {minute} : {event}." for minute, event in enumerate(("but", "corner", "carton", "0", "but") * 3)]
TOKENS = 12  # of an answer


def write_test(folder, questions=QUESTIONS):
    """Write a test split; its prompts share their system message, but for the last one."""
    rows = []
    for number, question in enumerate(questions):
        before = [SYSTEM] if number < len(questions) - 1 else []
        messages = [*before, {"role": "user", "content": question}, {"role": "assistant", "content": "But de la tête."}]
        rows.append({"id": str(number), "messages": messages, "expected": "But de la tête."})
    keys = dict.fromkeys(("spans", "label", "group", "origin")) | {"meta": {}}
    return write_lines(folder / "test.jsonl", [row | keys for row in rows])


def predict(path, folder, timed: int = 0, test=None, **generation) -> tuple[list[dict], list[dict]]:
    """Run the step; return answers and likelihoods, in the order of their files."""
    folder.mkdir(exist_ok=True)
    settings = run_settings(generation={"max_new_tokens": TOKENS, **generation})
    words = [path, "--test", test or write_test(folder), "--answers", folder / "a.jsonl", "--settings"]
    words += [json.dumps(settings), "--likelihood", folder / "likelihood.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_with_llama, "TIMED", timed)
        assert predict_with_llama.main([*map(str, words)]) == 0
    return [*read_jsonl(folder / "a.jsonl")], [*read_jsonl(folder / "likelihood.jsonl")]


@pytest.fixture(scope="module")
def alone(tiny_gguf, tmp_path_factory):
    """Answers and likelihoods of prompts that are asked one after the other."""
    return predict(tiny_gguf, tmp_path_factory.mktemp("alone"), timed=99)


@pytest.fixture(scope="module")
def batched(tiny_gguf, tmp_path_factory):
    """Answers and likelihoods of prompts that are asked in a batch."""
    return predict(tiny_gguf, tmp_path_factory.mktemp("batched"))


def without_seconds(rows: list[dict]) -> list[dict]:
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def shortfalls(path, prompts, generation: dict) -> list[float]:
    """Answer prompts in a batch; return by how much the logit of each of its tokens is below the largest.

    The logits are those of one call after the other, from an empty cache, with the same tokens before.
    """
    reader, found = TextReader(), []
    with open_gguf(path, context=256, threads=1) as model:
        with open_sequences(model, 1 + len(prompts), 256, threads=1) as sequences:
            batch, asked = Batch(model, sequences, generation), [reader.tail(model, p.messages) for p in prompts]
            for place, prompt in enumerate(prompts):
                batch.read(place + 1, prompt, asked[place])
            answers = [Answer(ids, sampler=None) for ids in asked]
            batch.generate(answers)
        for answer in answers:
            model.reset()
            model.eval(answer.prompt)
            for token in answer.ids:
                logits = last_logits(model)
                found.append(float(logits.max() - logits[token]))
                model.eval([token])
    return found


def last_logits(model) -> numpy.ndarray:
    logits = llama_cpp.llama_get_logits_ith(model.ctx, -1)
    return numpy.ctypeslib.as_array(logits, shape=(model.n_vocab(),)).copy()


def test_each_token_of_a_batch_is_one_by_one_within_rounding_of_the_most_probable(smollm2, tiny_gguf, tmp_path):
    generation = run_settings(generation={"max_new_tokens": TOKENS})["generation"]
    prompts = prompts_in(write_test(tmp_path), None)
    assert max(shortfalls(tiny_gguf, prompts, generation)) < 0.01
    assert max(shortfalls(smollm2, prompts[:6], generation)) < 0.25  # of weights in 4 bits, activations in 8


def test_likelihoods_and_answers_are_those_of_one_prompt_after_the_other(alone, batched):
    assert [row["nll"] for row in batched[1]] == pytest.approx([row["nll"] for row in alone[1]], rel=1e-4)
    assert [{**row, "nll": 0} for row in batched[1]] == [{**row, "nll": 0} for row in alone[1]]
    equal = [one == other for one, other in zip(*map(without_seconds, (alone[0], batched[0])), strict=True)]
    assert sum(equal) >= len(equal) - 2
    assert len({row["answer"] for row in batched[0]}) > 3


def test_the_first_answers_are_timed_alone_and_those_of_a_batch_have_no_time(tiny_gguf, alone, tmp_path):
    rows, likelihoods = predict(tiny_gguf, tmp_path, timed=4)
    assert ["seconds" in row for row in rows] == [True] * 4 + [False] * (len(rows) - 4)
    assert without_seconds(rows[:4]) == without_seconds(alone[0][:4])
    assert likelihoods[:4] == alone[1][:4]
    assert all("seconds" in row for row in predict(tiny_gguf, tmp_path / "one", batch_size=1)[0])


def test_what_prompts_share_is_in_nobodys_seconds(tiny_gguf, tmp_path, monkeypatch):
    kept, answer_prompt = [], predict_with_llama.answer_prompt

    def watched(model, reader, *arguments):
        kept.append(len(reader.prefix))
        return answer_prompt(model, reader, *arguments)

    monkeypatch.setattr(predict_with_llama, "answer_prompt", watched)
    predict(tiny_gguf, tmp_path, timed=3)
    assert kept[0] > 10
    assert len({*kept}) == 1


def test_an_interrupted_step_makes_the_same_files(tiny_gguf, batched, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_sequences, "MOST", 6)
    whole = predict(tiny_gguf, tmp_path / "whole", timed=2, temperature=1.5)

    add = AnswerFile.add

    for kept in (1, 4, 9):  # answers: of those one by one, and of a batch that was being written
        folder = tmp_path / str(kept)

        def killed(file, *answer, kept=kept):
            if len(file.rows) == kept:
                raise KeyboardInterrupt
            add(file, *answer)

        with monkeypatch.context() as patch:
            patch.setattr(AnswerFile, "add", killed)
            with pytest.raises(AssertionError):
                predict(tiny_gguf, folder, timed=2, temperature=1.5)
        [partial] = folder.glob(".a.jsonl.*.partial")
        partial.write_text(partial.read_text() + '{"id": "cut')
        rows, likelihoods = predict(tiny_gguf, folder, timed=2, temperature=1.5)
        assert (without_seconds(rows), likelihoods) == (without_seconds(whole[0]), whole[1])


def test_a_finished_batch_evaluates_no_prompt_without_a_likelihood(tiny_gguf, tmp_path, monkeypatch):
    prompts = [replace(prompt, prompt_set="extra") for prompt in prompts_in(write_test(tmp_path), None)]
    file, settings = AnswerFile(tmp_path / "a.jsonl", {}), run_settings()
    for prompt in prompts:
        file.add(prompt, {"answer": ""})
    monkeypatch.setattr(predict_with_llama, "TIMED", 0)
    monkeypatch.setattr(llama_sequences.Sequences, "evaluate", None)
    with open_gguf(tiny_gguf, context=256, threads=1) as model:
        assert predict_with_llama.answer_prompts(model, TextReader(), prompts, file, settings, threads=1) == []


def test_a_sampled_answer_is_that_of_its_seed(tiny_gguf, tmp_path):
    generation = {"temperature": 1.5, "top_k": 40, "repetition_penalty": 1.1}
    first, again = (predict(tiny_gguf, tmp_path / name, seed=1, **generation)[0] for name in ("first", "again"))
    other, single = (
        predict(tiny_gguf, tmp_path / name, seed=seed, timed=timed, **generation)[0]
        for name, seed, timed in (("other", 2, 0), ("single", 1, 99))
    )
    assert first == again
    assert [row["answer"] for row in first] != [row["answer"] for row in other]
    # The same sampler as one by one: rounding may change a draw now and then.
    equal = [one == two for one, two in zip(first, without_seconds(single), strict=True)]
    assert sum(equal) >= len(equal) - 3


def test_the_number_of_sequences_follows_from_the_model_and_the_longest_prompt(tiny_gguf, monkeypatch):
    with open_gguf(tiny_gguf, context=8) as model:
        assert llama_sequences.sequences_for(model, 200, 90) == llama_sequences.MOST
        assert llama_sequences.sequences_for(model, 200, 5) == 5
        monkeypatch.setattr(llama_sequences, "CACHE_BYTES", 4 * 512 * llama_sequences.bytes_of_token(model))
        assert llama_sequences.sequences_for(model, 300, 90) == 3  # and the shared one
        assert llama_sequences.sequences_for(model, 10**6, 90) == 0


def test_prompts_of_which_no_two_fit_are_answered_alone_with_their_times(tiny_gguf, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_sequences, "CACHE_BYTES", 1)
    rows, likelihoods = predict(tiny_gguf, tmp_path)
    assert all("seconds" in row for row in rows)
    assert (without_seconds(rows), likelihoods) == (without_seconds(alone[0]), alone[1])


def test_a_lack_of_memory_is_one_line_that_says_what_to_do(tiny_gguf, monkeypatch):
    monkeypatch.setattr(llama_cpp, "llama_init_from_model", lambda *arguments: None)
    line = r"can't evaluate 3 sequences of 99 tokens: .*; set generation.batch_size: 1"
    with open_gguf(tiny_gguf, context=8) as model, pytest.raises(UserError, match=line):
        open_sequences(model, 3, 99, threads=1).__enter__()
