"""The reading server of the review page: what it shows of results and of other files, and whom it refuses."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path
from urllib.request import urlopen

import pytest
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from scripts.common.errors import UserError
from scripts.review.app import create_app
from scripts.review.replies import Reply, body_of
from scripts.review.serve import main
from tests.support.pictures import encoded, picture
from tests.support.project import ROOT
from tests.support.score_fixtures import answer_rows, babble, first_half, judge_run, record_rows, same, write_rows

HOME = "http://127.0.0.1:8765"
IMAGE = f"images/{'a' * 64}.png"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A dataset in French with an image, a quarantine, and a scored run of two variants on it."""
    results = tmp_path_factory.mktemp("review") / "results"
    dataset = results / "datasets/d"
    rows = answer_rows("fr")
    parts = [{"type": "image", "image": IMAGE}, {"type": "text", "text": "Titre ?"}]
    rows[7]["messages"] = [{"role": "user", "content": parts}]
    facts = record_rows(rows, group=["g"] * 8, minute=list(range(8)))
    split = [
        {
            **fact,
            "messages": [*row["messages"], {"role": "assistant", "content": row["expected"]}],
            "expected": row["expected"],
            "spans": None,
            "label": row["label"],
        }
        for row, fact in zip(rows, facts, strict=True)
    ]
    write_rows(dataset / "test.jsonl", split)
    raw = {"messages": [{"role": "user", "content": "Et alors ?"}]}
    write_rows(dataset / "quarantine.jsonl", [{"origin": "raw.json:9", "reason": "has no answer", "record": raw}])
    (dataset / "images").mkdir()
    (dataset / IMAGE).write_bytes(encoded(picture(size=(12, 8))))
    prompts = answer_rows("vi", same, "island")
    prompts[1]["expected"] = None
    variants = {
        name: [*({**row, "messages": rows[n]["messages"]} for n, row in enumerate(answer_rows("fr", change))), *prompts]
        for name, change in (("base", babble), ("q4_k_m", first_half))
    }
    judge_run(results, "r", "fr", variants, test=dataset / "test.jsonl", metrics=["exact_match", "chrf", "length_mean"])
    return results


def client_of(*paths: Path, folder: Path = Path("review"), **settings) -> TestClient:
    """Return a client of the application on some paths."""
    return TestClient(create_app([*paths], folder, **settings), base_url=HOME)


@pytest.fixture(scope="module")
def client(results) -> TestClient:
    return client_of(results)


def listed(client: TestClient, collection: str, **query) -> list[dict]:
    """Return the records of a list under filters."""
    reply = client.get("/api/records", params={"collection": collection, **query})
    assert reply.status_code == 200, reply.text
    return reply.json()["records"]


def record(client: TestClient, collection: str, **query) -> dict:
    """Return one record."""
    reply = client.get("/api/record", params={"collection": collection, **query})
    assert reply.status_code == 200, reply.text
    return reply.json()


def other_file(path: Path, *rows: dict | str) -> Path:
    """Write a JSONL file of another tool."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_splits_quarantine_and_answers_of_all_variants_are_listed(client):
    found = {entry["id"]: entry for entry in client.get("/api/collections").json()["collections"]}
    assert {name: entry["count"] for name, entry in found.items()} == {
        "dataset/d/test": 8, "dataset/d/quarantine": 1, "run/r": 22,
    }  # fmt: skip
    run = found["run/r"]
    assert (run["variants"], run["sets"], run["dataset"]) == (["base", "q4_k_m"], ["island", "test"], "d")
    assert (run["language"], found["dataset/d/test"]["language"]) == ("fr", None)
    assert {score["name"]: score["direction"] for score in run["scores"]} == {
        "exact_match": "higher", "chrf": "higher", "length_mean": "neither",
    }  # fmt: skip


def test_an_answer_is_shown_with_its_record_its_difference_its_scores_and_the_other_variants(client, results):
    scores = json.loads((results / "runs/r/scores/q4_k_m.json").read_text(encoding="utf-8"))
    shown = record(client, "run/r", id=f"{3:016x}", id_variant="q4_k_m", id_set="test")
    assert shown["expected"] == "Les deux équipes sont rentrées aux vestiaires."
    assert shown["actual"] == "Les deux équipes sont r"
    assert [piece["kind"] for piece in shown["diff"]] == ["same", "missing", "added"]
    assert shown["scores"] == {metric: values[3] for metric, values in scores["per_record"].items()}
    assert [(other["variant"], other["actual"][:8]) for other in shown["others"]] == [("base", "le ballo")]
    assert (shown["group"], shown["origin"], shown["meta"]["minute"]) == ("g", "raw.json:4", 3)
    assert shown["is_error"]
    in_set = record(client, "run/r", id=f"{0:016x}", id_variant="base", id_set="island")
    assert in_set["expected"] == in_set["actual"]
    assert in_set["scores"]["exact_match"] == 1
    assert not in_set["is_error"]


def test_records_are_filtered_and_sorted_by_a_score_and_neighbours_keep_to_it(client):
    query = {"variant": "q4_k_m", "set": "test", "errors": "1", "label": "Commentaire", "sort": "chrf", "order": "desc"}
    found = listed(client, "run/r", **query)
    assert len(found) == 4
    scores = [entry["score"] for entry in found]
    assert scores == sorted(scores, reverse=True)
    assert [entry["id"] for entry in listed(client, "run/r", **query, offset="1", limit="2")] == [
        entry["id"] for entry in found[1:3]
    ]
    second = record(client, "run/r", key=found[1]["key"], **query)
    assert (second["previous"], second["next"]) == (found[0]["key"], found[2]["key"])
    assert (second["position"], second["total"]) == (2, 4)
    assert record(client, "run/r", key=found[0]["key"], **query)["previous"] is None
    assert record(client, "run/r", key=found[3]["key"], **query)["next"] is None
    for order in ("asc", "desc"):  # an answer without an expected one has no chrF, and comes last
        scores = [entry["score"] for entry in listed(client, "run/r", sort="chrf", order=order, variant="base")]
        assert [score is None for score in scores] == [False] * 10 + [True]
    elsewhere = record(client, "run/r", key=found[1]["key"], variant="base")
    assert (elsewhere["position"], elsewhere["previous"], elsewhere["total"]) == (None, None, 11)


@pytest.mark.parametrize(
    ("typed", "ids"),
    [
        ("équipes", [3]),
        ("EQUIPES rentrees", [3]),
        (unicodedata.normalize("NFD", "équipes"), [3]),
        ("l'arbitre", [5]),
        ("l’arbitre s'est", [5]),
        ("arrêt*", [5]),
        ("arrêt", []),
        ('"carton jaune"', [2]),
        ('"jaune carton"', []),
        ("đêm đèn", [0]),
        ("dem vai", [0]),
        ("vai", [0]),
        ("vái", []),
        ("rau (sạch) NOT", []),
        ('OR "', []),
    ],
)
def test_full_text_finds_french_and_vietnamese_as_typed(client, typed, ids):
    found = {entry["id"] for entry in listed(client, "run/r", q=typed)}
    assert found == {f"{number:016x}" for number in ids}


def test_a_search_without_a_word_and_an_unknown_score_get_a_line(client):
    for query, said in (({"q": "!"}, "has no word to look for"), ({"sort": "bleu"}, "there are: chrf, exact_match")):
        reply = client.get("/api/records", params={"collection": "run/r", **query})
        assert reply.status_code == 400
        assert said in reply.json()["error"]
    assert client.get("/api/record?collection=run/r&key=x").status_code == 400
    for missing in ("collection=run/x&key=0", "collection=run/r&key=99", "collection=run/r&id=x"):
        assert client.get(f"/api/record?{missing}").status_code == 404


def test_a_record_of_a_quarantine_is_an_error_with_its_reason(client):
    (entry,) = listed(client, "dataset/d/quarantine", errors="1", q="alors")
    shown = record(client, "dataset/d/quarantine", id=entry["id"])
    assert (shown["reason"], shown["origin"]) == ("has no answer", "raw.json:9")
    assert shown["messages"] == [{"role": "user", "content": "Et alors ?"}]


def test_images_are_shown_and_nothing_else_is_read(client, results, tmp_path):
    shown = record(client, "run/r", id=f"{7:016x}", id_variant="base", id_set="test")
    image, text = shown["messages"][0]["content"]
    assert (image["width"], image["height"], text["text"]) == (12, 8, "Titre ?")
    reply = client.get(image["url"])
    assert (reply.headers["content-type"], reply.headers["x-content-type-options"]) == ("image/png", "nosniff")
    assert reply.content == (results / "datasets/d" / IMAGE).read_bytes()
    outside = tmp_path / "outside.png"
    outside.write_bytes(reply.content)
    (results / "datasets/d/images/link.png").symlink_to(outside)
    (results / "datasets/d/images/page.png").write_text("<script>alert(1)</script>")
    for name in (
        "images/link.png", "images/page.png", "test.jsonl", "../../../outside.png", "..%2f..%2f..%2foutside.png",
        "%2fetc%2fpasswd", str(outside), "images/%00.png", "images", "",
    ):  # fmt: skip
        assert client.get(f"/image/dataset/d/test/{name}").status_code == 404, name
    for path in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/api/nothing"):
        assert client.get(path).status_code == 404, path


def test_a_link_out_of_the_results_is_not_opened(results, tmp_path, caplog):
    copied = shutil.copytree(results, tmp_path / "results")
    (tmp_path / "secret.jsonl").write_text('{"id": "s", "messages": [], "expected": "secret"}\n')
    (copied / "datasets/d/validation.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (copied / "runs/r/scores/base.json").unlink()
    (copied / "runs/r/scores/base.json").symlink_to(results / "runs/r/scores/base.json")
    with client_of(copied) as client:
        assert "dataset/d/validation" not in client.get("/api/collections").text
        assert {entry["variant"] for entry in listed(client, "run/r")} == {"q4_k_m"}
    assert caplog.text.count("so it is not opened") >= 2


def test_files_of_other_tools_are_read_in_their_own_columns(tmp_path):
    (tmp_path / "p.png").write_bytes(encoded(picture()))
    asked = [
        {"type": "image_url", "image_url": {"url": "p.png"}},
        {"type": "image_url", "image_url": {"url": "no.png"}},
    ]
    turns = [{"role": "user", "content": "Ça va ?"}, {"role": "assistant", "content": "Oui !"}]
    path = other_file(
        tmp_path / "tool.jsonl",
        {"prompt": "2 + 2 ?", "completion": "4", "model": "x"},
        {"messages": turns, "expected": "Oui.", "label": "fr"},
        {"prompt": turns[:1], "completion": turns[1:], "expected": "Oui !", "actual": "oui\ud800"},
        {"prompt": [{"role": "user", "content": asked}], "actual": "un titre"},
        {
            "text": "Anna",
            "spans": [[0, 4, "PERSON"]],
            "actual": '[{"label": "CITY", "text": "Anna"}]',
            "expected": "[]",
        },
        '{"something": NaN, "else": [1e999]}',
        {"messages": None, "prompt": 5, "expected": {"a": 1}, "spans": [["x", 2, 3]], "meta": []},
    )
    client = client_of(path)
    shown = [record(client, "file/1", key=str(key)) for key in range(7)]
    assert [(row["expected"], row["actual"], row["is_error"]) for row in shown[:4]] == [
        ("4", None, False), ("Oui.", "Oui !", True), ("Oui !", "oui\ud800", True), (None, "un titre", False),
    ]  # fmt: skip
    assert shown[0]["meta"] == {"model": "x"}
    assert [part["type"] for part in shown[3]["messages"][0]["content"]] == ["image", "text"]
    assert client.get(shown[3]["messages"][0]["content"][0]["url"]).status_code == 200
    assert (shown[4]["gold"], shown[4]["predicted"]) == ([[0, 4, "PERSON"]], [[0, 4, "CITY"]])
    assert '"something": null' in shown[5]["messages"][0]["content"]
    assert (shown[6]["messages"][0]["content"], shown[6]["expected"], shown[6]["gold"]) == ("5", '{"a": 1}', None)


def test_records_with_the_same_id_or_content_can_all_be_opened(tmp_path):
    first, second, plain = {"id": "d", "prompt": "first"}, {"id": "d", "prompt": "second"}, {"prompt": "third"}
    client = client_of(other_file(tmp_path / "tool.jsonl", first, second, {**first, "variant": "v"}, plain, plain))
    ids = [entry["id"] for entry in listed(client, "file/1")]
    assert ids == ["d", "d-2", "d", ids[3], f"{ids[3]}-2"]
    assert record(client, "file/1", id="d-2")["messages"][0]["content"] == "second"


def test_a_bad_line_is_named_and_the_others_are_opened(tmp_path, caplog):
    path = other_file(tmp_path / "x.jsonl", {"prompt": "a"}, '{"prompt": ', "[1]", "[" * 10**5, {"prompt": "b"})
    path.write_bytes(path.read_bytes() + b'{"prompt": "\xff"}\n')
    assert [entry["text"] for entry in listed(client_of(path), "file/1")] == ["a", "b"]
    assert [said.split("is not")[0] for said in caplog.messages if "the line is left out" in said] == [
        f"{path}:{number}: " for number in (2, 3, 4, 6)
    ]


def test_a_reply_has_at_most_200_records(tmp_path):
    client = client_of(other_file(tmp_path / "x.jsonl", *({"prompt": str(number)} for number in range(201))))
    assert len(listed(client, "file/1", limit="1000")) == 200


def test_a_changed_file_is_read_anew_and_a_removed_one_gets_a_line(tmp_path):
    path = other_file(tmp_path / "x.jsonl", {"prompt": "first"})
    client = client_of(path)
    assert [entry["text"] for entry in listed(client, "file/1")] == ["first"]
    other_file(path, {"prompt": "second"}, {"prompt": "third"})
    assert [entry["text"] for entry in listed(client, "file/1", q="third")] == ["third"]
    path.unlink()
    reply = client.get("/api/records?collection=file/1")
    assert (reply.status_code, reply.json()["error"]) == (404, "the files of 'file/1' are no longer there")


def test_other_sites_and_names_are_refused(client):
    asked = "/api/collections"
    for host in ("127.0.0.1:8765", "localhost:9000", "[::1]:8765"):
        assert client.get(asked, headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "192.168.1.5:8765", "[::1", ""):
        for path in ("/", asked, "/static/review.js"):
            assert client.get(path, headers={"Host": host}).status_code == 403, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8765"):
        assert client.get(asked, headers={"Origin": origin}).status_code == 403, origin
        assert client.post("/api/export", json={}, headers={"Origin": origin}).status_code == 403, origin
    assert client.get(asked, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_post_has_to_be_a_json_object_of_limited_size(results):
    async def echo(request: Request) -> Reply:
        return Reply({"half": 1 / (await body_of(request))["number"]})

    app = create_app([results], Path("review"))
    app.router.routes.append(Route("/echo", echo, methods=["POST"]))
    client = TestClient(app, base_url=HOME, raise_server_exceptions=False)
    assert client.post("/echo", json={"number": 2}).json() == {"half": 0.5}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert client.post("/echo", content='{"number": 2}', headers={"Content-Type": kind}).status_code == 415, kind
    as_json = {"Content-Type": "application/json; charset=utf-8"}
    for body, status in ((b"[1]", 400), (b"{", 400), (b"[" * 10**5, 400), (b" " * (2**20 + 1), 413)):
        assert client.post("/echo", content=body, headers=as_json).status_code == status
    failed = client.post("/echo", json={"number": 0})
    assert (failed.status_code, failed.headers["x-content-type-options"]) == (500, "nosniff")
    assert failed.json()["error"].startswith("ZeroDivisionError: ")


def test_every_reply_forbids_foreign_code_and_guessing_of_types(client):
    for path in ("/", "/api/collections", "/api/nothing", "/static/nothing", "/image/dataset/d/test/x"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'"), path
        assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == (
            "nosniff",
            "same-origin",
        )
    refused = client.get("/", headers={"Host": "evil.example"})
    assert (refused.status_code, refused.headers["x-content-type-options"]) == (403, "nosniff")


def test_another_address_needs_the_password(results):
    with pytest.raises(UserError, match="needs a password; set SNAKETUNE_REVIEW_PASSWORD"):
        create_app([results], Path("review"), host="0.0.0.0")
    client = client_of(results, host="0.0.0.0", password="clé")
    for user, status in (("anna:clé", 200), ("anna:cle", 401), (":", 401)):
        given = base64.b64encode(user.encode()).decode()
        headers = {"Host": "box.example:8765", "Authorization": f"Basic {given}"}
        assert client.get("/api/collections", headers=headers).status_code == status
    for given in ("", "Basic é", "Basic !", "Bearer x"):
        assert client.get("/", headers={"Authorization": given.encode()}).status_code == 401
    assert client_of(results, password="clé").get("/").status_code == 401, "this machine may have other users"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere: does not exist; run snakemake first, or name another path"),
        (["."], ".: has neither splits nor answers yet; run snakemake first"),
        (["one", "two"], "two results folders have 'dataset/d/test'; open one of them at a time"),
        (["one", "--host", "0.0.0.0"], "so it needs a password; set SNAKETUNE_REVIEW_PASSWORD, or leave out --host"),
        (["one", "--host", "203.0.113.1"], "can't listen on 203.0.113.1:0: "),
    ],
)
def test_what_can_not_be_served_gets_one_line(results, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKETUNE_REVIEW_PASSWORD", raising=False)
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(results)
    assert main([*words, "--port", "0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_port_in_use_gets_one_line_and_an_interrupt_ends_the_server_quietly(results, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([str(results), "--port", str(taken.getsockname()[1])]) == 1
    assert "Address already in use; give another --port or --host, or end the program" in capsys.readouterr().err
    command = [sys.executable, "scripts/review/serve.py", str(results), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for number in (signal.SIGINT, signal.SIGTERM):
        server = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        address = server.stdout.readline().split()[1]
        with urlopen(f"{address}api/collections") as reply:
            assert len(json.load(reply)["collections"]) == 3
        assert [*tmp_path.glob("snaketune-review-*/*.sqlite")]
        server.send_signal(number)
        assert (server.communicate(timeout=300)[1].strip(), server.returncode) == ("", 0)
        assert not [*tmp_path.glob("snaketune-review-*")]
