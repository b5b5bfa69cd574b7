"""A match that is played with a served bundle finds each kind of failure, and says which."""

import itertools
import json
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.deploy import soak
from scripts.deploy.quality_monitor import ABTestMonitor
from scripts.deploy.soak import main, match_of
from tests.support.fake_server import SERVE


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Return a function that plays a match of questions, and returns exit status and findings."""
    monkeypatch.setenv("LLAMA_SERVER", "sh")  # serve.sh starts another program here
    (tmp_path / "serve.sh").write_text(SERVE)
    (tmp_path / "SHA256SUMS").write_text("")

    def run(questions: list[str], *options: str, stop: str = "end") -> tuple[int, dict]:
        rows = [{"messages": [{"role": "user", "content": text}], "stop": stop} for text in questions]
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [str(tmp_path), "--prompts", str(tmp_path / "prompts.jsonl"), "--output", str(tmp_path / "soak.json")]
        status = main([*words, "--speed", "600", "--memory-growth", "9", *options])
        return status, json.loads((tmp_path / "soak.json").read_text())

    return run


def test_a_match_without_a_fault_passes_and_each_answer_is_logged_to_the_monitor(play, tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_API_KEY", "secret")
    limits = ("--minutes", "2", "--burst", "4", "--p95", "60", "--max-tokens", "7")
    questions = ["say But~ !", *["say But"] * 3, "limit 7", "end length"]
    status, found = play(questions, *limits, "--monitor", str(tmp_path / "m.sqlite"), "--fail")
    assert (status, found["passed"], found["reasons"]) == (0, True, [])
    assert (found["requests"], found["answers"], found["faulty"]) == (6, 6, [])
    assert 0 < found["first_token"]["median"] < found["seconds"]["p95"] <= found["seconds"]["max"]
    assert found["memory"]["warm_bytes"] > 2**20
    assert ABTestMonitor(tmp_path / "m.sqlite").get_comparison_report()["new"]["count"] == 6
    with soak.Server(tmp_path) as server:
        assert server.process.poll() is None
    assert server.process.poll() is not None


FAULTS = {
    "say  ": "empty",
    "say Allez~<|im_end|>": "broken: it has <|im_end|>",
    "say [INST] But": "broken: it has [INST]",
    "say B\ufffdt": "broken: it has U+FFFD, a replacement character",
    "end error": "broken: its finish reason is error",
    "status 500": "error: OSError: HTTP status 500: data:",
    "status 404": "error: OSError: HTTP status 404: data:",
    "send {}": "error: KeyError: 'choices'",
    "send no": "error: JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "say [1-0] <b>But</b> de Lens <3": None,
}


def test_each_faulty_answer_is_counted_and_shown_and_exits_with_1_only_if_asked(play, tmp_path):
    limits = ("--minutes", str(len(FAULTS)), "--burst", "1", "--p95", "60")
    status, found = play(list(FAULTS), *limits, "--monitor", str(tmp_path / "m.sqlite"))
    assert (status, found["passed"]) == (0, False)
    logged = ABTestMonitor(tmp_path / "m.sqlite").get_comparison_report()["new"]
    assert logged["errors"] == sum(found["faults"].values())
    whys = {answer["fault"].partition("data:")[0] for answer in found["faulty"]}
    assert whys == {why.partition("data:")[0] for why in FAULTS.values() if why}
    assert [reason.partition(" answers: ")[2] for reason in found["reasons"]] == ["broken", "empty", "error"]
    assert play(["say ~ "], "--minutes", "1", "--burst", "1", "--fail")[0] == 1


def test_a_slow_answer_a_leak_and_a_server_that_ends_do_not_pass(play):
    assert "above 0.001 s" in play(["say a~b"], "--minutes", "1", "--p95", "0.001")[1]["reasons"][0]
    leaking = ["say a", *["leak 5"] * 20]
    found = play(leaking, "--minutes", "12", "--burst", "1", "--p95", "60", "--memory-growth", "0.5")[1]
    assert found["memory"]["growth"] > 0.5
    assert found["reasons"] == [f"memory grew by {found['memory']['growth']:.1%}, above 50.0%"]
    found = play(["say a", "say b", "say c", "crash"], "--minutes", "20", "--burst", "1")[1]
    assert found["reasons"][0] == "the server ended with exit status 3"
    assert found["answers"] < found["requests"]
    missing = found["requests"] - found["answers"]
    assert f"{missing} of {found['requests']} requests were not sent" in found["reasons"]


def test_answers_that_do_not_end_pass_only_if_the_prompts_own_answers_did_not_either(play):
    limits = ("--minutes", "1", "--burst", "4", "--p95", "60")
    found = play(["end length"], *limits)[1]
    assert found["reasons"] == ["100% of the answers did not end, but reached the limit of tokens"]
    assert play(["end length"], *limits, stop="length")[1]["passed"]


@pytest.mark.parametrize("question", ["wait 2", "say Goal" + "~o" * 100])  # silence, and text without an end
def test_an_answer_without_an_end_is_a_timeout_and_counts_in_p95(play, monkeypatch, question):
    monkeypatch.setattr(soak, "SECONDS_TO_ANSWER", 0.5)
    found = play([question], "--minutes", "1", "--burst", "1", "--p95", "0.1")[1]
    assert found["faults"] == {"timeout": 2}
    assert found["reasons"] == ["2 of 2 answers: timeout", f"p95 is {found['seconds']['p95']} s, above 0.1 s"]
    assert found["seconds"]["p95"] >= 0.5


def test_one_prompt_comes_in_each_minute_and_a_burst_in_each_quarter_of_an_hour():
    prompts = [[{"content": str(number)}] for number in range(5)]
    events = match_of(prompts, 90, 8, seed=1)
    assert events == match_of(prompts, 90, 8, seed=1) != match_of(prompts, 90, 8, seed=2)
    at_once = {minute: len(list(group)) for minute, group in itertools.groupby(minute for minute, _ in events)}
    assert {minute: count for minute, count in at_once.items() if count > 1} == dict.fromkeys(range(0, 90, 15), 8)
    assert Counter(int(minute) for minute, _ in events) == {m: 9 if m % 15 == 0 else 1 for m in range(90)}


def test_memory_warms_up_until_a_burst_is_answered_however_short_the_match_is(monkeypatch):
    samples, is_answered = itertools.count(1), threading.Event()

    def memory() -> int:
        number = next(samples)
        if number == 3:
            is_answered.set()
        return number

    def ask(*_) -> soak.Answer:
        is_answered.wait()
        return soak.Answer(0)

    monkeypatch.setattr(soak, "ask", ask)
    server = SimpleNamespace(port=0, memory=memory, process=SimpleNamespace(poll=lambda: None))
    limits = SimpleNamespace(minutes=0.001, speed=600, burst=4, max_tokens=1)
    answers, found = soak.play(server, [(0, [])] * 4, limits, lambda answer: None)
    assert (len(answers), found[:3]) == (4, [(True, 1), (True, 2), (True, 3)])


def test_what_is_missing_is_named_in_one_line(tmp_path, capsys, monkeypatch):
    prompts: Path = tmp_path / "p.jsonl"
    words = [str(tmp_path), "--prompts", str(prompts), "--output", str(tmp_path / "soak.json")]
    prompts.write_text('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}\n')
    assert main(words) == 1
    assert "p.jsonl:1: has no messages of text before the answer" in capsys.readouterr().err
    prompts.write_text('{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n')
    assert soak.read_prompts(prompts) == ([[{"role": "user", "content": "x"}]], 0)  # the answer is not asked
    assert main(words) == 1
    assert "has no SHA256SUMS; run snakemake to build the bundle again" in capsys.readouterr().err
    (tmp_path / "SHA256SUMS").write_text("")
    assert main(words) == 1
    assert "has no serve.sh; run snakemake to build the bundle again" in capsys.readouterr().err
    (tmp_path / "serve.sh").write_text("exit 1")
    monkeypatch.setenv("LLAMA_SERVER", "no-such-server")
    assert main(words) == 1
    assert "no-such-server is not installed; run `make llama-server`" in capsys.readouterr().err
    monkeypatch.setenv("LLAMA_SERVER", "sh")
    assert main(words) == 1
    assert "the server did not start" in capsys.readouterr().err
