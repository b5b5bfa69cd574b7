"""Judging: blind tasks, votes that survive kill -9, agreement, results, exports and the judge model."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from starlette.testclient import TestClient

from scripts.common.files import read_jsonl, write_jsonl
from scripts.common.judged import judged_hash
from scripts.review import judge_model
from scripts.review.agreement import alpha
from scripts.review.app import create_app
from scripts.review.exports import main as export_program
from scripts.review.judgements import NAME, Judgements, connect
from scripts.review.studies import needed, plan_study, plan_tasks, vote_value
from scripts.score.counts import rejection_power
from scripts.score.intervals import interval
from scripts.score.votes import count_votes, read_votes, vote_rows

ROOT = Path(__file__).resolve().parents[2]
LEFT, RIGHT = "captions/q4_k_m", "captions/base"


def rows(variant: str, records: int = 60) -> list[dict]:
    """Return answers that differ by variant, the first one only in its white space and its normal form."""
    texts = {"q4_k_m": "  Bu\u0302t de {}! <|im_end|>\n", "base": "B\u00fbt de {}? <|im_end|>"}
    return [
        {
            "prompt_set": "test", "id": f"r{number}", "messages": [{"role": "user", "content": f"Write {number}"}],
            "expected": f"Written by hand {number}", "label": None, "answer": texts[variant].format(number),
        }
        for number in range(records)
    ]  # fmt: skip


def answers(run: str, variant: str) -> list[dict]:
    return rows(variant)


@pytest.fixture
def folder(tmp_path) -> Path:
    for variant in ("q4_k_m", "base"):
        write_jsonl(tmp_path / f"results/runs/captions/answers/{variant}.jsonl", rows(variant))
    return tmp_path


@pytest.fixture
def page(folder):
    with TestClient(create_app([folder / "results"], folder / "review"), base_url="http://127.0.0.1") as client:
        yield client


def started(page, **said) -> dict:
    reply = page.post("/api/studies", json={"reader": "anna", "kind": "pair", "left": LEFT, "right": RIGHT, **said})
    assert reply.status_code == 200, reply.text
    return reply.json()


def judged_by(page, study: str, reader: str, judge) -> list[dict]:
    """Judge all tasks of a reader; `judge(task)` gives the vote. Return the tasks."""
    tasks = []
    while (task := page.get("/api/task", params={"study": study, "reader": reader}).json())["task"]:
        reply = page.post("/api/votes", json={"task": task["task"], "reader": reader, **judge(task)})
        assert reply.status_code == 200, reply.text
        tasks.append(task)
    return tasks


def test_a_task_does_not_tell_the_sides(page, folder):
    study = started(page, records=60, overlap=1, readers=6)
    assert "seed" not in json.dumps(study)
    tasks = []
    for reader in "abcdef":
        tasks += judged_by(page, study["id"], reader, lambda task: {"choice": "first"})
    assert {tuple(task) for task in tasks} == {("kind", "task", "messages", "texts", "done", "of", "language")}
    assert {task["language"] for task in tasks} == {None}
    assert len({task["task"] for task in tasks}) == len(tasks) == 6 * 66
    assert all(re.fullmatch(r"[0-9a-f]{16}", task["task"]) for task in tasks)
    # Outer white space and the normal form are the same on both sides; leftovers of a chat template stay.
    assert all(re.fullmatch(r"B\u00fbt de \d+[!?] <\|im_end\|>", text) for task in tasks for text in task["texts"])
    ours_first = ["!" in task["texts"][0] for task in tasks]
    # Neither the id of a task nor its place tells the side: a rule that is right by chance is right half of the time.
    by_id = sum((task["task"] > "8") == first for task, first in zip(tasks, ours_first, strict=True))
    by_place = sum((task["done"] % 2 == 0) == first for task, first in zip(tasks, ours_first, strict=True))
    chance, most = len(tasks) / 2, 4.5 * (len(tasks) / 4) ** 0.5
    assert all(abs(right - chance) < most for right in (sum(ours_first), by_id, by_place))
    # Who always chooses the first text wins half of the votes, and changes their mind on all repeated ones.
    found = page.get("/api/study", params={"id": study["id"]}).json()
    assert 0.35 < found["rates"][0]["value"] < 0.65
    assert all(reader["self_agreement"] == {"same": 0, "of": 6} for reader in found["by_reader"])
    assert "a judged only 0 of 6 texts the same way when they were shown again (Win rate)" in found["warnings"]


def test_a_reader_judges_an_own_share_and_the_overlap_and_a_tenth_again_apart_from_the_first():
    plan, _ = plan_study(answers, "pair", LEFT, RIGHT, records=60, readers=3, overlap=0.2, seed=7)
    tasks = [plan_tasks(plan, slot) for slot in range(3)]
    firsts = [[item for item, _, is_repeat in own if not is_repeat] for own in tasks]
    judged = Counter(item for own in firsts for item in own)
    assert sorted(judged.values()) == [1] * 48 + [3] * 12
    assert all(judged[item] == 3 for item in range(12))
    assert [item for item in firsts[0] if item < 12] != [item for item in firsts[1] if item < 12]
    for own in tasks:
        places = {(item, is_repeat): (place, side) for place, (item, side, is_repeat) in enumerate(own)}
        repeats = [item for item, _, is_repeat in own if is_repeat]
        assert len(repeats) == 3
        for item in repeats:
            (first, side), (again, other) = places[item, False], places[item, True]
            assert again - first >= len(own) // 3
            assert side != other
    # A reader beyond the planned number judges the overlap.
    assert {item for item, *_ in plan_tasks(plan, 3)} == set(range(12))
    assert plan_tasks({**plan, "overlap": 0}, 3) == []


def test_the_human_test_mixes_both_kinds_of_texts_half_and_half_in_no_order():
    _, items = plan_study(answers, "human_test", LEFT, records=60, seed=3)
    assert len({item["record"] for item in items}) == 60
    by_person = [item["by_person"] for item in items]
    assert sum(by_person) == 30
    assert by_person[::2] not in ([True] * 30, [False] * 30)
    assert {item["variant"] for item in items if item["by_person"]} == {"expected"}
    assert {tuple(item) for item in items} == {tuple(items[0])}
    item = next(item for item in items if item["by_person"])
    assert item["hash"] == judged_hash(item["messages"], f"Written by hand {item['record'][1:]}")
    _, rated = plan_study(answers, "rating", LEFT, "expected", records=20)
    assert sum(item["by_person"] for item in rated) == 10


def test_the_needed_number_gives_the_exact_test_80_percent_power():
    wanted = needed("human_test", None, 0.9, 0.95)
    assert "above 0.9 if it is 0.95 (power 80 %" in wanted["wanted"]
    single = needed("rating", None, 0.9, 0.95)["judgements"]
    assert wanted["judgements"] == 2 * single == needed("rating", "expected", 0.9, 0.95)["judgements"]
    powers = rejection_power(np.array([single - 1, single]), 0.9, 0.95, 0.95)
    assert powers[0] < 0.8 <= powers[1]
    # Sample size by the normal approximation (Fleiss 1981): 194 for 0.6 against 0.5.
    assert 194 <= needed("pair")["judgements"] <= 215


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"threshold": 0.9, "expected": 0.9}, "tells 0.9 from 0.9"),
        ({"threshold": "nan"}, "no number of judgements"),
        ({"kind": "opinion"}, "'opinion' is unknown"),
        ({"left": "captions/q8_0"}, "no answers of 'q8_0'"),
        ({"right": LEFT}, "a pair needs two sides"),
        ({"readers": 0}, "at least 1"),
        ({"records": "many"}, "'records' is not a whole number"),
        ({"reader": "Model:gpt"}, "do not begin with 'model:'"),
        ({"reader": "x" * 41}, "1 to 40 characters"),
        ({"reader": "a\u202eb"}, "1 to 40 characters"),
    ],
)
def test_a_study_that_cannot_be_is_refused_in_one_line(page, said, told):
    reply = page.post("/api/studies", json={"reader": "anna", "kind": "pair", "left": LEFT, "right": RIGHT, **said})
    assert 400 <= reply.status_code < 500
    assert told in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_equal_answers_of_a_pair_are_left_out_and_counted():
    plan, items = plan_study(lambda run, variant: rows("base")[:9] + rows(variant)[9:], "pair", LEFT, RIGHT)
    assert (plan["identical"], len(items)) == (9, 51)


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ({"kind": "pair", "right": RIGHT}, 51), ({"kind": "pair", "right": LEFT}, 0), ({"kind": "pair"}, 0),
        ({"kind": "rating"}, 60), ({"kind": "rating", "right": "expected"}, 58), ({"kind": "human_test"}, 58),
    ],
)  # fmt: skip
def test_the_form_learns_how_many_records_a_study_can_have(page, folder, said, count):
    answers = [{**row, "expected": row["expected"] if place > 1 else None} for place, row in enumerate(rows("q4_k_m"))]
    path = folder / "results/runs/captions/answers/q4_k_m.jsonl"
    write_jsonl(path, rows("base")[:9] + answers[9:] if said["kind"] == "pair" else answers)
    found = page.get("/api/needed", params={"left": LEFT, **said}).json()
    assert found["available"] == count
    if count:
        assert started(page, **{"right": None, "records": 99, **said})["records"] == count


def test_a_vote_is_final_until_it_is_taken_back(page):
    study = started(page, records=10)["id"]
    asked = {"study": study, "reader": "anna"}
    task = page.get("/api/task", params=asked).json()
    said = {"task": task["task"], "reader": "anna", "choice": "tie"}
    assert page.post("/api/votes", json={**said, "choice": "both"}).status_code == 400
    assert page.post("/api/votes", json={**said, "reader": "ben"}).status_code == 404
    for broken in ({"task": "\ud800"}, {"comment": "\ud800"}):  # no file and no database can hold half a character
        body = json.dumps({**said, **broken})
        reply = page.post("/api/votes", content=body, headers={"Content-Type": "application/json"})
        assert (reply.status_code, "whole characters" in reply.text) == (400, True)
    assert page.post("/api/votes", json=said).json() == {"done": 1, "of": 11}
    assert page.post("/api/votes", json=said).status_code == 409
    assert page.get("/api/task", params=asked).json()["task"] != task["task"]
    assert page.post("/api/undo", json=asked).json() == task
    assert page.post("/api/undo", json=asked).status_code == 409
    assert page.get("/api/task", params={**asked, "study": "no"}).status_code == 404


def test_who_only_looks_takes_nobodys_share_and_capitals_make_no_other_reader(page):
    study = started(page, records=20, readers=2, overlap=0)["id"]
    for reader in ("ana", "ben"):
        assert page.get("/api/task", params={"study": study, "reader": reader}).json()["of"] == 11
    assert len(judged_by(page, study, "Élise", lambda task: {"choice": "tie"})) == 11
    assert page.get("/api/task", params={"study": study, "reader": "ÉLISE"}).json()["task"] is None
    assert page.post("/api/undo", json={"study": study, "reader": "élise"}).status_code == 200
    judged_by(page, study, "élise", lambda task: {"choice": "tie"})
    (plan,) = page.get("/api/studies").json()["studies"]
    assert [(reader["name"], reader["done"]) for reader in plan["readers"]] == [("ben", 0), ("Élise", 11)]


def test_results_are_shown_to_a_reader_who_has_judged_all_and_then_no_vote_is_taken_back(page):
    study = started(page, records=10)["id"]
    asked = {"study": study, "reader": "anna"}
    page.get("/api/task", params=asked)
    wanted = {"id": study, "reader": "Anna"}
    assert "judged 0 of 11 texts" in page.get("/api/study", params=wanted).json()["error"]
    judged_by(page, study, "anna", lambda task: {"choice": "tie"})
    assert page.post("/api/undo", json=asked).status_code == 200
    assert page.get("/api/study", params=wanted).status_code == 409
    judged_by(page, study, "anna", lambda task: {"choice": "tie"})
    assert page.get("/api/study", params={**wanted, "reader": "ben"}).json()["votes"] == 10
    assert page.get("/api/study", params=wanted).json()["votes"] == 10
    assert page.post("/api/undo", json=asked).status_code == 409


@pytest.mark.parametrize("said", [{}, {"passed": 1}, {"stars": 6}, {"stars": True}, {"passed": True, "comment": 5}])
def test_a_rating_is_checked(said):
    with pytest.raises(Exception, match=r"rating|comment"):
        vote_value("rating", False, said)


def test_changed_answers_do_not_change_what_is_judged_and_are_told(page, folder):
    study, needs = (started(page, records=10)[name] for name in ("id", "needed"))
    write_jsonl(folder / "results/runs/captions/answers/q4_k_m.jsonl", [{**r, "answer": "new"} for r in rows("base")])
    tasks = judged_by(page, study, "anna", lambda task: {"choice": "first"})
    assert all("new" not in task["texts"] for task in tasks)
    warnings = page.get("/api/study", params={"id": study}).json()["warnings"]
    assert any(text.startswith("10 of 10 answers have changed") for text in warnings)
    assert any(text.startswith(f"10 of {needs['judgements']} texts are judged that are needed") for text in warnings)
    assert any(text.startswith("only one reader") for text in warnings)


def test_results_have_rates_and_agreement_of_ratings(page):
    study = started(page, kind="rating", right="expected", records=40, readers=2, overlap=1)["id"]
    judged_by(page, study, "anna", lambda task: {"passed": "hand" in task["texts"][0], "stars": 4})
    judged_by(page, study, "ben", lambda task: {"passed": "hand" in task["texts"][0], "comment": "fine"})
    found = page.get("/api/study", params={"id": study}).json()
    ours, theirs = found["rates"][:2]
    assert (ours["name"], ours["value"], ours["n"], ours["votes"], ours["readers"]) == ("human_pass_rate", 0, 20, 40, 2)
    assert (theirs["name"], theirs["value"]) == ("human_pass_rate_of_human_texts", 1)
    assert found["alpha"] == {"value": 1.0, "low": None, "high": None, "n": 40}
    stars = found["rates"][2]
    assert (stars["name"], stars["value"], stars["alpha"]) == ("human_stars", 4, None)
    assert "no text has been judged by two readers" in stars["alpha_reason"]
    rows = [(row["reader"], row["name"], row["rate"], row["self_agreement"]) for row in found["by_reader"]]
    same = {"same": 4, "of": 4}
    assert rows == [
        ("anna", "human_pass_rate", 0, same), ("anna", "human_stars", 4, same), ("ben", "human_pass_rate", 0, same),
    ]  # fmt: skip


def test_stars_without_pass_or_fail_count_in_no_pass_rate(page):
    study = started(page, kind="rating", records=60)["id"]
    numbers = [int(item["record"][1:]) for item in Judgements(page.app.state.folder).items(study)]
    odd = sum(number % 2 for number in numbers)
    said = [{"passed": True}, {"stars": 4}]
    judged_by(page, study, "anna", lambda task: said[int(task["messages"][0]["content"][6:]) % 2])
    found = page.get("/api/study", params={"id": study}).json()
    rows = [(row["name"], row["votes"], row["rate"]) for row in found["by_reader"]]
    assert rows == [("human_pass_rate", 60 - odd, 1), ("human_stars", odd, 4)]
    assert [(rate["votes"], rate["value"]) for rate in found["rates"]] == [(60 - odd, 1), (odd, 4)]


def test_the_page_and_the_score_stage_have_the_same_numbers(page, folder):
    study = started(page, records=40, readers=5, overlap=0.5)["id"]
    for reader in "abcde":
        judged_by(page, study, reader, lambda task: {"choice": ("first", "second", "tie")[int(task["task"], 16) % 3]})
    page.post("/api/export", json={})
    rows = read_votes(folder / "review/votes.jsonl")
    sides = answers("captions", "q4_k_m"), answers("captions", "base")
    votes = count_votes(rows, sides[0], "captions", "q4_k_m", RIGHT, sides[1], with_models=False)
    scored = interval("votes", vote_rows(votes.own["win_rate"], 60), None, bounded=True).row()
    shown = page.get("/api/study", params={"id": study}).json()["rates"][0]
    assert {name: shown[name] for name in ("value", "low", "high", "n")} == {
        k: scored[k] for k in scored if k != "groups"
    }
    assert votes.ignored == {"win_rate": {"repeats": 15}}


def test_alpha_is_that_of_krippendorffs_example():
    # Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section C: 4 observers, 12 units.
    data = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    votes = [
        (f"reader {reader}", unit, float(value))
        for reader, line in enumerate(data)
        for unit, value in enumerate(line.split())
        if value != "."
    ]
    assert round(alpha(votes)[0]["value"], 3) == 0.743
    assert round(alpha(votes, "ordinal")[0]["value"], 3) == 0.815
    assert alpha(votes)[0]["n"] == 11
    assert alpha([("a", 1, 1.0), ("b", 1, 1.0)])[1].startswith("all votes")


@pytest.mark.parametrize(("items", "readers", "share", "error"), [(30, 2, 0.5, 0.1), (40, 3, 0.8, 0.15)])
def test_the_interval_of_alpha_covers_the_truth(items, readers, share, error):
    # Readers err independently: observed disagreement 2e(1 - e), expected 2q(1 - q) with q yes of all votes.
    yes = share * (1 - error) + (1 - share) * error
    truth = 1 - error * (1 - error) / (yes * (1 - yes))
    generator, covered = np.random.default_rng(5), 0
    for _ in range(200):
        true = generator.random(items) < share
        said = true[:, None] ^ (generator.random((items, readers)) < error)
        found, _ = alpha((str(r), i, float(said[i, r])) for i in range(items) for r in range(readers))
        covered += found["low"] is not None and found["low"] <= truth <= found["high"]
    assert covered >= 180


def test_two_readers_and_two_processes_at_once_lose_nothing(folder):
    plan, items = plan_study(answers, "pair", LEFT, RIGHT, records=60, readers=4, overlap=1)
    study = Judgements(folder / "review").add_study(plan, items)
    program = (
        "import sys; from pathlib import Path; from scripts.review.judgements import Judgements\n"
        "store, study, reader = Judgements(Path(sys.argv[1])), sys.argv[2], sys.argv[3]\n"
        "while (task := store.next_task(study, reader))['task']:\n"
        "    store.vote(task['task'], reader, lambda kind, swapped: {'won': float(swapped)})\n"
    )
    command = [sys.executable, "-c", program, str(folder / "review"), study]
    programs = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("anna", "ben", "chris", "chris")]
    # Two programs of one reader get the same tasks: one of them may be refused, but no vote counts twice.
    assert [each.wait() for each in programs[:2]] == [0, 0]
    assert 0 in [each.wait() for each in programs[2:]]
    votes = Counter(vote["reader"] for vote in Judgements(folder / "review").votes(study))
    assert votes == {"anna": 66, "ben": 66, "chris": 66}


def test_kill_9_of_the_server_loses_no_acknowledged_vote(folder):
    command = [sys.executable, str(ROOT / "scripts/review/serve.py"), str(folder / "results")]
    command += ["--folder", str(folder / "review"), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    address = re.search(r"http://\S+/", server.stdout.readline()).group()
    said = {"reader": "anna", "kind": "pair", "left": LEFT, "right": RIGHT, "records": 60, "readers": 2, "overlap": 1}
    study = call(f"{address}api/studies", said)["id"]

    def vote_on(reader: str) -> int:
        acknowledged = 0
        try:
            while task := call(f"{address}api/task?study={study}&reader={reader}")["task"]:
                call(f"{address}api/votes", {"task": task, "reader": reader, "choice": "tie"})
                acknowledged += 1
                if acknowledged == 25:
                    server.kill()
        except OSError:
            return acknowledged
        pytest.fail("the server was killed too late")

    with ThreadPoolExecutor() as readers:
        counts = list(readers.map(vote_on, ["anna", "ben"]))
    server.wait()
    stored = Counter(vote["reader"] for vote in Judgements(folder / "review").votes(study))
    # A vote may be on disk whose reply was lost.
    assert min(counts) > 0
    assert [stored[reader] - count in (0, 1) for reader, count in zip(("anna", "ben"), counts, strict=True)] == [
        True
    ] * 2


def call(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as reply:
        return json.loads(reply.read())


def test_exports_are_sorted_and_preferences_are_those_of_most_readers(page, folder, capsys):
    pair = started(page, records=10, readers=3, overlap=1)["id"]
    started(page, kind="human_test", records=10)

    def prefer(*wins: int, losses: tuple = ()):
        def judge(task: dict) -> dict:
            record, is_first = int(task["messages"][0]["content"][6:]), "!" in task["texts"][0]
            choice = "first" if is_first == (record in wins) else "second"
            return {"choice": choice if record in (*wins, *losses) else "tie"}

        return judge

    items = [int(item["record"][1:]) for item in Judgements(folder / "review").items(pair)]
    judged_by(page, pair, "anna", prefer(*items[:4]))
    judged_by(page, pair, "ben", prefer(*items[1:3], losses=(items[3],)))
    judged_by(page, pair, "chris", prefer(items[2]))
    files = page.post("/api/export", json={}).json()["files"]
    assert {Path(file["path"]).name: file["rows"] for file in files}["preferences.jsonl"] == 2
    pairs = list(read_jsonl(folder / "review/preferences.jsonl"))
    assert {row["prompt"][0]["content"] for row in pairs} == {f"Write {items[1]}", f"Write {items[2]}"}
    assert all("!" in row["chosen"][0]["content"] and "?" in row["rejected"][0]["content"] for row in pairs)
    assert {row["split"] for row in pairs} == {"test"}
    votes = list(read_jsonl(folder / "review/votes.jsonl"))
    assert len(votes) == 33
    row = next(row for row in votes if row["record"] == f"r{items[2]}")
    prompt = [{"role": "user", "content": f"Write {items[2]}"}]
    assert row["hash"] == judged_hash(prompt, f"B\u00fbt de {items[2]}! <|im_end|>")
    assert row["against_hash"] == judged_hash(prompt, f"B\u00fbt de {items[2]}? <|im_end|>")
    assert (row["run"], row["variant"], row["against"], row["won"]) == ("captions", "q4_k_m", RIGHT, 1)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (folder / "review").glob("*.jsonl")}
    assert export_program(["--folder", str(folder / "review")]) == 0
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    assert export_program(["--folder", str(folder / "none")]) == 1


class OpenAI(BaseHTTPRequestHandler):
    """A judge that finds an exclamation mark better, passes it, and takes it for a person's."""

    faults: ClassVar[list] = []
    asked: ClassVar[list] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, self.headers.get("Authorization"), body))
        status, text = self.faults.pop(0) if self.faults else (200, None)
        if text is None:
            enum = body["response_format"]["json_schema"]["schema"]["properties"]["verdict"]["enum"]
            answer = body["messages"][0]["content"].partition("ANSWER")[2]
            word = enum["!" not in answer.partition("ANSWER B")[0]] if "first" not in self.path else enum[0]
            text = json.dumps({"choices": [{"message": {"content": json.dumps({"verdict": word})}}]})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def openai(monkeypatch):
    monkeypatch.setattr(judge_model, "WAIT", 0.01)
    monkeypatch.setattr(OpenAI, "faults", [])
    monkeypatch.setattr(OpenAI, "asked", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), OpenAI) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def judge(folder: Path, url: str, study: str, *more: str) -> int:
    common = ["--study", study, "--model", "m", "--folder", str(folder / "review")]
    return judge_model.main(["--url", url, *common, *more])


def test_a_judge_model_asks_for_both_orders_and_is_compared_with_people(page, folder, openai, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    study = started(page, records=10)["id"]
    judged_by(page, study, "anna", lambda task: {"choice": "first" if "!" in task["texts"][0] else "second"})
    assert judge(folder, f"{openai}/v1", study) == 0
    assert [(path, key) for path, key, _ in OpenAI.asked] == [("/v1/chat/completions", "Bearer key")] * 20
    assert "what most people say of 10 of 10 texts" in "".join(capsys.readouterr())
    votes = [vote for vote in Judgements(folder / "review").votes(study) if vote["is_model"]]
    assert [(vote["reader"], vote["won"]) for vote in votes] == [("model:m", 1.0)] * 10
    found = page.get("/api/study", params={"id": study}).json()
    assert (found["votes"], found["rates"][0]["readers"]) == (10, 1)
    assert found["by_reader"][1]["agreement"]["same"] == 10
    # A judge that prefers the first text in both orders has no preference.
    study = started(page, records=10)["id"]
    assert judge(folder, f"{openai}/first", study) == 0
    assert {vote["won"] for vote in Judgements(folder / "review").votes(study)} == {0.5}
    assert "10 pairs are ties because the two orders gave different answers" in "".join(capsys.readouterr())


def test_a_judge_model_answers_in_words_and_continues_after_faults(page, folder, openai, capsys, tmp_path):
    study = started(page, kind="human_test", records=4)["id"]
    question = tmp_path / "question.txt"
    question.write_text("{request} ANSWER {answer}")
    reply = json.dumps({"choices": [{"message": {"content": "<think>a model?</think>\nVerdict: **Person**."}}]})
    OpenAI.faults += [(500, "busy"), (200, "no JSON"), (200, reply), (401, "no\nkey")]
    assert judge(folder, openai, study, "--question", str(question)) == 1
    assert "answers with status 401: no key; check --url" in "".join(capsys.readouterr())
    assert judge(folder, openai, study, "--question", str(question)) == 0
    assert len(Judgements(folder / "review").votes(study)) == 4
    assert len(OpenAI.asked) == 3 + 1 + 3
    assert OpenAI.asked[0][2]["messages"][0]["content"].startswith("user: Write ")
    other = started(page, kind="rating", records=3)["id"]
    OpenAI.faults += [(200, "[]")] * 4
    assert judge(folder, openai, other) == 1
    assert "does not answer with JSON" in "".join(capsys.readouterr())
    assert judge(folder, "http://127.0.0.1:9", other) == 1
    assert "Connection refused" in "".join(capsys.readouterr())
    assert judge(folder, "file:///etc", other) == 1
    assert "is not an address" in "".join(capsys.readouterr())


def test_a_vote_is_flushed_to_disk_before_the_reply(folder):
    with closing(connect(folder / "review")) as database:
        settings = [database.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    assert settings == ["wal", 2]  # 2: FULL


def test_judgements_are_read_in_a_folder_that_can_not_be_written(page, folder):
    judged_by(page, started(page, records=10)["id"], "anna", lambda task: {"choice": "tie"})
    store, program = folder / "review", (
        "import sys; from pathlib import Path; from scripts.review.corrections import corrections\n"
        "from scripts.review.judgements import Judgements; folder = Path(sys.argv[1])\n"
        "print(len(Judgements(folder).votes()), len(Judgements(folder).studies()), corrections(folder))\n"
    )  # fmt: skip
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("this machine does not let tests mount a folder read-only")
    frozen = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
    command = [*alone, "sh", "-c", frozen, "sh", str(store), sys.executable, program]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout == "11 1 []\n", done.stderr


def test_another_file_is_not_taken_for_judgements(folder):
    (folder / "review").mkdir()
    (folder / "review" / NAME).write_text("text " * 1000)
    with pytest.raises(Exception, match="cannot be read: file is not a database; move it away"):
        Judgements(folder / "review").studies()
