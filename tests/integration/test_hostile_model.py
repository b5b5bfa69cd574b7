"""A hostile model folder: nothing in it is run, nothing outside of it is taken, and what can't be taken is one line.

Through the step that takes a folder, and on to the loading of what it took; then its chat template alone, which may try
to leave its sandbox or never end.
"""

import json
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer

from scripts.common.base_model import load_base, load_tokenizer
from scripts.common.chat import render
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, write_json
from scripts.model import link_local_model
from scripts.model.template_date import pin_template_date
from tests.support.chat_templates import TEMPLATES
from tests.support.project import ROOT
from tests.support.tiny_model import without_manifest

SETTINGS = {"architecture": "mistral", "license": "MIT", "trust_remote_code": False, "template_date": None}
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nPath({mark!r}).touch()\nclass Own: pass\n"
PICKLE = b"\x80\x04cos\nsystem\n(S'touch ran'\ntR."


class Folder:
    """A model's folder to be spoilt, and the step that takes it."""

    def __init__(self, source: Path, target: Path, capsys: pytest.CaptureFixture):
        self.source, self.target, self.mark, self.capsys = source, target, source.with_name("mark"), capsys

    def change(self, name: str, **entries) -> None:
        """Change entries of a JSON file."""
        content = read_json(self.source / name) if (self.source / name).is_file() else {}
        write_json(self.source / name, content | entries)

    def plant(self, name: str) -> None:
        """Put Python code there that leaves a mark when it is run."""
        (self.source / name).write_text(CODE.format(mark=str(self.mark)), encoding="utf-8")

    def take(self) -> int:
        """Run the step; return its exit status."""
        words = [self.source, "--name", "mine", "--folder", self.target, "--settings", json.dumps(SETTINGS)]
        return link_local_model.main([*map(str, words)])

    def refused(self, line: str) -> None:
        """The step refuses the folder with this in its one line, and leaves nothing behind."""
        assert self.take() == 1
        said = self.capsys.readouterr().err.partition(" ERROR ")[2].strip()
        assert line in said
        assert len(said.splitlines()) == 1
        assert not self.target.exists()


@pytest.fixture
def folder(tiny_base, tmp_path, capsys) -> Folder:
    return Folder(without_manifest(tiny_base, tmp_path / "source"), tmp_path / "taken", capsys)


def test_pickles_are_not_taken_and_alone_they_are_refused(folder):
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "x.pkl", "x.h5", "x.npy"):
        (folder.source / name).write_bytes(PICKLE)
    assert folder.take() == 0
    kept = {path.suffix for path in folder.target.iterdir() if not path.name.startswith(".")}
    assert kept <= {".json", ".jinja", ".model", ".safetensors"}
    shutil.rmtree(folder.target)
    (folder.source / "model.safetensors").unlink()
    folder.refused("has no .safetensors file, only training_args.bin, which can hide code")


@pytest.mark.parametrize("place", ["", "evil/repository--"])
def test_code_for_a_known_model_is_taken_out_and_never_fetched_or_run(folder, place):
    folder.plant("modeling_own.py")
    folder.plant("tokenization_own.py")
    kinds = ("AutoConfig", "AutoModelForCausalLM")
    kernel = {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel:run"}
    folder.change("config.json", auto_map=dict.fromkeys(kinds, f"{place}modeling_own.Own"), **kernel)
    folder.change("tokenizer_config.json", auto_map={"AutoTokenizer": [f"{place}tokenization_own.Own", None]})
    folder.change("generation_config.json", custom_generate="evil/generate")
    assert folder.take() == 0
    mended = check_manifest(folder.target / "manifest.json", hashes=True)["mended"]
    assert {"config.json", "tokenizer_config.json"} <= {*mended}
    assert not list(folder.target.glob("*.py"))
    written = "".join(path.read_text() for path in folder.target.glob("*config.json"))
    assert "auto_map" not in written
    assert "evil" not in written
    load_tokenizer(folder.target / "manifest.json")
    load_base(folder.target / "manifest.json", torch.float32)
    assert not folder.mark.exists()


def test_a_model_or_tokenizer_that_is_nothing_without_its_code_is_refused(folder):
    folder.plant("own.py")
    folder.change("tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    (folder.source / "tokenizer.json").unlink(missing_ok=True)
    folder.refused("its tokenizer needs its own Python code (class 'Own'); read that code, then set")
    folder.change("config.json", auto_map={"AutoConfig": "own.Own"}, model_type="own")
    folder.refused("needs its own Python code (model type 'own'); read that code, then set")
    assert not folder.mark.exists()


BEYOND = b'{"t": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}'


@pytest.mark.parametrize("content", [b"", struct.pack("<Q", 2**63), struct.pack("<Q", len(BEYOND)) + BEYOND + bytes(4)])
def test_a_hostile_safetensors_header_is_refused(folder, content):
    (folder.source / "model.safetensors").write_bytes(content)
    folder.refused("model.safetensors: is not a valid safetensors file: ")


def test_an_index_that_leads_out_of_the_folder_or_to_a_pickle_is_refused(folder):
    shutil.copy(folder.source / "model.safetensors", folder.source.parent / "secret.safetensors")
    (folder.source / "pytorch_model.bin").write_bytes(PICKLE)
    for name in ("../secret.safetensors", "/etc/passwd", "pytorch_model.bin", "none.safetensors", 7):
        folder.change("model.safetensors.index.json", weight_map={"lm_head.weight": name})
        folder.refused("which is not a safetensors file of the folder")


@pytest.mark.parametrize(
    ("name", "target", "line"),
    [
        ("README.md", "/etc/passwd", "README.md: is a link out of the model's folder; replace it by the file"),
        ("model-2.safetensors", "/etc/passwd", "/source/model-2.safetensors: is not a valid safetensors file"),
        ("model-2.safetensors", "nothing", "/source/model-2.safetensors: is a broken link"),
    ],
)
def test_a_link_to_something_else_is_refused(folder, name, target, line):
    (folder.source / name).symlink_to(target)
    folder.refused(line)


def test_of_a_file_that_is_copied_the_users_own_is_named(folder):
    (folder.source / "tokenizer_config.json").write_text("{", encoding="utf-8")
    folder.refused(f"{folder.source / 'tokenizer_config.json'}:1: is not valid JSON")


USER = [{"role": "user", "content": "Qui marque ?"}, {"role": "assistant", "content": "Jovanic."}]
ESCAPES = [  # test_dataset_sandbox.py has more for the same sandbox
    "{{ messages.__class__ }}{{ messages[0].__init__.__globals__ }}",
    "{{ (messages | attr('__class__')).__mro__[0] }}",
    "{{ lipsum.__globals__['os'].popen('touch ran').read() }}",
    "{{ raise_exception.__globals__['json'].codecs.open('/etc/passwd').read() }}",
    "{{ strftime_now.__globals__ }}{{ strftime_now.__globals__['json'].loads('1') }}",
    "{% import 'os' as os %}{{ os.system('touch ran') }}",
    "{% set x = namespace() %}{{ x.__init__.__globals__.os }}{{ x.__init__.__globals__.os.system('touch ran') }}",
]
ENDLESS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a tower of powers": "{{ 9 ** (9 ** (9 ** 9)) }}",
    "a text of 10 GB": "{{ ('x' * 10**10) | length }}",
    "output without end": "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
}


@pytest.mark.parametrize("template", ESCAPES)
def test_no_way_out_of_the_sandbox(template, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with suppress(TemplateError):
        said = render_template(template, USER, "<s>", "</s>")
        assert "class" not in said
        assert "root:" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ENDLESS)
def test_a_model_whose_template_never_ends_or_fills_the_memory_is_refused_with_a_line(name, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.model.template_date.MAX_SECONDS", 1)  # it is 30
    (tmp_path / "chat_template.jinja").write_text(ENDLESS[name])
    with pytest.raises(UserError, match=r"the chat template needs more than 1 seconds of CPU time or 2048 MiB; name"):
        pin_template_date(tmp_path)


def test_a_sound_template_passes_where_the_machine_has_lower_limits():
    code = "from scripts.model.template_date import tried_template; print(tried_template('{{ messages[0].content }}'))"
    command = f'ulimit -t 25; ulimit -v 1800000; exec {sys.executable} -c "{code}"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "('{{ messages[0].content }}', None)\n", done.stderr


def test_a_template_that_calls_itself_is_refused_with_a_line_and_sound_ones_are_rendered_as_by_transformers(tiny_base):
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.parent)
    for template, *_ in TEMPLATES.values():
        for messages, ending in ((USER, False), (USER[:1], True)):
            options = {"tokenize": False, "add_generation_prompt": ending, "chat_template": template}
            own = render_template(template, messages, add_generation_prompt=ending, **tokenizer.special_tokens_map)
            assert own == tokenizer.apply_chat_template(messages, **options)
    tokenizer.chat_template = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"
    with pytest.raises(UserError, match="refuses the conversation: maximum recursion depth"):
        render(tokenizer, USER)
