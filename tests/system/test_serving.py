"""A bundle serves itself by serve.sh: OpenAI's client talks to it, and the model gets the prompts of training."""

import base64
import dataclasses
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.ipc
import pytest
from openai import OpenAI

from envs import llama_server
from scripts.common.chat import IGNORED, conversation_ids
from scripts.common.files import read_jsonl, write_manifest
from scripts.common.vision import load_image, vision_tokenizer
from scripts.config.runs import Run
from scripts.deploy.serving_files import SOURCES
from scripts.train.tokenize_conversations import main as tokenize
from tests.support.llama_server import PATIENCE, free_port, process_of, server, wait_until_up
from tests.support.needs import need
from tests.support.served_bundle import QUESTIONS, SYSTEM, bundle_of, smollm2_bundle, write_split
from tests.support.tiny_model import copy_model
from tests.support.vision_run import image_question


@pytest.fixture(scope="module")
def run_folder(smollm2, tmp_path_factory) -> Path:
    """The folder of a run on SmolLM2, with its bundle."""
    folder = tmp_path_factory.mktemp("run")
    smollm2_bundle(smollm2, folder)
    return folder


@pytest.fixture(scope="module")
def url(run_folder) -> Iterator[str]:
    """The bundle's address; it serves eight requests at the same time."""
    with server(run_folder / "bundle", PARALLEL=8) as address:
        yield address


@pytest.fixture(scope="module")
def client(url) -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def asked(client: OpenAI, question: str, system: str | None = None, **options):
    """Return the reply to a question."""
    first = [{"role": "system", "content": system}] if system else []
    messages = [*first, {"role": "user", "content": question}]
    return client.chat.completions.create(model="smollm2-pirate", messages=messages, **options)


def posted(url: str, **values) -> dict:
    """Send JSON to an address of llama-server's own; return its reply."""
    request = urllib.request.Request(url, json.dumps(values).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as reply:
        return json.load(reply)


def test_a_streamed_answer_is_the_whole_answer_piece_by_piece_and_ends_at_the_stop_token(client):
    question = (QUESTIONS[0], "Answer in one short sentence.")
    whole = asked(client, *question, max_tokens=64).choices[0]
    chunks = [chunk.choices[0] for chunk in asked(client, *question, max_tokens=64, stream=True) if chunk.choices]
    pieces = [chunk.delta.content for chunk in chunks if chunk.delta.content]
    assert "".join(pieces) == whole.message.content
    assert "Paris" in whole.message.content
    assert len(pieces) > 3
    assert (whole.finish_reason, chunks[-1].finish_reason) == ("stop", "stop")
    assert "<|" not in whole.message.content
    endless = asked(client, *question, max_tokens=100, extra_body={"ignore_eos": True}).choices[0]
    assert endless.finish_reason == "length"


def test_the_system_message_of_a_client_reaches_the_model(client):
    plain, pirate = (asked(client, "Who are you?", system, max_tokens=40) for system in (None, SYSTEM))
    assert plain.choices[0].message.content != pirate.choices[0].message.content
    assert "pirate" in pirate.choices[0].message.content.lower()


def test_eight_requests_are_answered_at_the_same_time(client):
    at_once = threading.Barrier(8)

    def stream(number: int) -> tuple[float, float, int]:
        at_once.wait(PATIENCE)
        question = f"Tell me about the number {number}."
        options = {"max_tokens": 48, "stream": True, "extra_body": {"ignore_eos": True}}
        times = [time.monotonic() for chunk in asked(client, question, **options) if chunk.choices[0].delta.content]
        return times[0], times[-1], len(times)

    with ThreadPoolExecutor(8) as pool:
        firsts, lasts, counts = zip(*pool.map(stream, range(8)), strict=True)
    assert max(firsts) < min(lasts)
    assert min(counts) > 24


def trained_prompts(folder: Path, base: Path) -> Iterator[tuple[list[dict], list[int]]]:
    """Tokenize conversations as for a training; yield each prompt with its token ids in the row that is trained on."""
    for split in ("train", "validation", "test"):
        write_split(folder / "data" / f"{split}.jsonl", SYSTEM if split == "train" else None)
    words = [folder / "data", "--base", base / "manifest.json", "--folder", folder / "tokens"]
    run = Run.model_validate({"dataset": "talk", "model": "base"}).model_dump(mode="json")
    assert tokenize([*map(str, words), "--settings", json.dumps(run)]) == 0
    for split in ("train", "test"):
        with pyarrow.ipc.open_stream(folder / "tokens" / f"{split}.arrow") as file:
            rows = {row["id"]: row for row in file.read_all().to_pylist()}
        for record in read_jsonl(folder / "data" / f"{split}.jsonl"):
            ids, labels = rows[record["id"]]["input_ids"], rows[record["id"]]["labels"]
            yield record["messages"][:-1], ids[: next(i for i, label in enumerate(labels) if label != IGNORED)]


def check_prompts(url: str, folder: Path, base: Path) -> None:
    """Check that a server gives the model the token ids of training."""
    for messages, ids in trained_prompts(folder, base):
        text = posted(f"{url}/apply-template", messages=messages)["prompt"]
        assert posted(f"{url}/tokenize", content=text, add_special=True, parse_special=True)["tokens"] == ids
        reply = posted(f"{url}/v1/chat/completions", messages=messages, max_tokens=1)
        assert reply["usage"]["prompt_tokens"] == len(ids)


def test_the_token_ids_of_a_prompt_are_those_of_training(url, run_folder, tmp_path):
    check_prompts(url, tmp_path, run_folder / "merged")


def test_the_token_ids_are_those_of_training_with_a_template_that_writes_bos(tiny_base, tiny_gguf, tmp_path):
    merged = shutil.copytree(tiny_base.parent, tmp_path / "merged")
    with server(bundle_of(tiny_gguf, merged, tmp_path, {"parity": {"prompts": 1}})) as url:
        check_prompts(url, tmp_path, merged)


def test_an_image_that_is_scaled_as_the_card_says_has_the_tokens_of_training(tiny_vision, tmp_path):
    merged = copy_model(tiny_vision.merged, tmp_path / "merged")
    manifest = write_manifest(merged, name="tiny", source="path", id=None, revision=None, architecture="mistral3")
    run = {"task": "vision", "parity": {"prompts": 1}}
    settings = Run.model_validate({**run, "dataset": "talk", "model": "base"}).model_dump(mode="json")
    tokenizer = vision_tokenizer(manifest, tiny_vision.data, settings)
    bundle = bundle_of(tiny_vision.gguf, merged, tmp_path, run, tiny_vision)
    scaled = runpy.run_path(str(bundle / "example_llama_cpp.py"), run_name="example")["scaled"]
    with server(bundle) as url:
        for name in ("square", "wide", "large"):
            picture = io.BytesIO()
            scaled(load_image(tiny_vision.data, f"images/{name}.png")).save(picture, "PNG")
            data = f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
            parts = [{"type": "image_url", "image_url": {"url": data}}, {"type": "text", "text": "Le titre ?"}]
            messages = [{"role": "user", "content": parts}]
            reply = posted(f"{url}/v1/chat/completions", messages=messages, max_tokens=1)
            ids = conversation_ids(tokenizer, image_question(f"images/{name}.png", "Le titre ?"))
            assert reply["usage"]["prompt_tokens"] == len(ids), name


def test_name_context_and_sampling_are_those_of_the_modelfile(client, url):
    properties = json.load(urllib.request.urlopen(f"{url}/props"))
    defaults = properties["default_generation_settings"]
    sampling = {name: defaults["params"][name] for name in ("temperature", "top_k", "min_p", "repeat_penalty")}
    assert sampling == {"temperature": 0.0, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.0}
    assert defaults["params"]["top_p"] == pytest.approx(0.9)
    assert (defaults["n_ctx"], properties["total_slots"]) == (512, 8)
    assert [model.id for model in client.models.list()] == ["smollm2-pirate"]


def test_systemd_accepts_the_unit(run_folder, tmp_path):
    program = need("systemd-analyze", "tests/system/install_systemd.sh")
    command = [program, "verify", "--user", run_folder / "bundle/snaketune.service"]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_sigterm_ends_the_server_once_a_client_in_the_middle_of_an_answer_hangs_up(run_folder):
    with process_of(run_folder / "bundle") as (url, process):
        client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
        stream = asked(client, "Tell a long story.", max_tokens=400, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        process.terminate()
        stream.close()
        assert process.wait(10) == 0


def test_the_program_is_made_once_and_runs_beside_its_libraries_as_in_the_container(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(llama_server, "build", None)
    assert llama_server.main() == 0
    [line] = re.findall(r"(?m)^COPY --from=environment (.*) /opt/llama.cpp/$", (SOURCES / "Containerfile").read_text())
    for pattern in line.split():
        found = list(Path(sys.prefix).glob(pattern))
        assert found, pattern
        for path in found:
            shutil.copy2(path, tmp_path)
    moved = subprocess.run([tmp_path / "llama-server", "--version"], env={}, capture_output=True, text=True, check=True)
    assert llama_server.fingerprint() in moved.stdout + moved.stderr
    loaded = subprocess.run(["ldd", tmp_path / "llama-server"], capture_output=True, text=True, check=True).stdout
    assert loaded.count(f"=> {tmp_path}/lib") == 5


def test_a_program_that_cannot_start_is_built_again(tmp_path):
    program = tmp_path / "llama-server"
    assert not llama_server.is_current(program)
    program.write_bytes(b"\x7fELF of another machine")
    assert not llama_server.is_current(program), "it is not executable"
    program.chmod(0o755)
    assert not llama_server.is_current(program)


def test_the_program_is_not_linked_to_libraries_of_another_version(monkeypatch, capsys):
    pin = llama_server.read_pin(llama_server.REQUIREMENTS)
    monkeypatch.setattr(llama_server, "read_pin", lambda path: dataclasses.replace(pin, version="9.9", sha256="0" * 64))
    assert llama_server.main() == 1
    assert f"has llama-cpp-python {pin.version}, not 9.9; start this by `make" in capsys.readouterr().err


def test_ollama_serves_the_bundle_with_its_system_message(run_folder, tmp_path):
    ollama = shutil.which("ollama")
    if not ollama:
        pytest.skip("there is no program 'ollama' here, and no package registry has one")
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {"OLLAMA_HOST": address, "OLLAMA_MODELS": str(tmp_path), "HOME": str(tmp_path)}
    service = subprocess.Popen([ollama, "serve"], env=environment)
    try:
        wait_until_up(f"http://{address}", service)
        create = [ollama, "create", "pirate", "-f", "Modelfile"]
        subprocess.run(create, cwd=run_folder / "bundle", env=environment, check=True, timeout=PATIENCE)
        reply = posted(f"http://{address}/api/generate", model="pirate", prompt=QUESTIONS[1], stream=False)
        assert (reply["done_reason"], reply["response"] != "") == ("stop", True)
    finally:
        service.terminate()
        service.wait(PATIENCE)
