"""The example programs of a bundle say in one line what they lack, before anything is loaded."""

import runpy
import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "deploy" / "examples"


@pytest.mark.parametrize(
    ("program", "words", "lacking"),
    [
        ("example_transformers.py", ["Hello"], "{folder}/merged"),
        ("example_transformers.py", ["Hello", "--model", "elsewhere"], "elsewhere"),
        ("example_transformers_image.py", ["page.png"], "{folder}/merged"),
        ("example_transformers_image.py", ["gone.png"], "gone.png"),
        ("example_llama_cpp_image.py", ["gone.png"], "gone.png"),
    ],
)
def test_what_an_example_lacks_is_named(program, words, lacking, tmp_path, monkeypatch):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "page.png").touch()
    copied = shutil.copy(EXAMPLES / program, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(copied, run_name="__main__")
    assert isinstance(ended.value.code, str)  # Python prints it to stderr and ends with status 1
    assert lacking.format(folder=tmp_path) in ended.value.code
