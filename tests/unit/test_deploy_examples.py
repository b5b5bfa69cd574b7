"""The example programs of a bundle say in one line what they lack, before anything is loaded."""

import runpy
import shutil
from pathlib import Path

import pytest

from scripts.deploy import fill_examples

EXAMPLES = Path(fill_examples.__file__).parent / "examples"
OF_IMAGES = ["example_llama_cpp_image.py", "example_transformers_image.py"]


def said(program: str, folder: Path, monkeypatch, *words: str) -> str:
    """Run an example from a bundle that was copied to a folder; return the line that it ends with, status 1."""
    copied = folder / "bundle" / program
    copied.parent.mkdir()
    shutil.copy(EXAMPLES / program, copied)
    monkeypatch.setattr("sys.argv", [program, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(copied), run_name="__main__")
    assert isinstance(ended.value.code, str)  # Python prints it to stderr and ends with status 1
    return ended.value.code


@pytest.mark.parametrize("program", ["example_transformers.py", "example_transformers_image.py"])
def test_a_bundle_copied_elsewhere_says_that_the_merged_model_is_not_beside_it(program, tmp_path, monkeypatch):
    picture = tmp_path / "page.png"
    picture.touch()
    line = f"no merged model in {tmp_path / 'merged'}; give its folder with --model"
    assert said(program, tmp_path, monkeypatch, str(picture)) == line


def test_a_folder_without_a_model_is_named(tmp_path, monkeypatch):
    line = f"no merged model in {tmp_path}; give its folder with --model"
    assert said("example_transformers.py", tmp_path, monkeypatch, "Hello", "--model", str(tmp_path)) == line


@pytest.mark.parametrize("program", OF_IMAGES)
def test_a_missing_image_is_named(program, tmp_path, monkeypatch):
    line = "no image gone.png; give a picture's path as the first argument"
    monkeypatch.chdir(tmp_path)
    assert said(program, tmp_path, monkeypatch, "gone.png") == line
