"""The bundle of a vision run: the tower's file beside the model's, and examples that show an image as training did."""

import json
import re
import runpy
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from scripts.common.config.runs import Run
from scripts.common.errors import UserError
from scripts.common.files import read_jsonl, write_manifest
from scripts.common.vision import image_grid, load_image
from scripts.deploy.build_bundle import vision_limits
from scripts.gguf.check_parity import main as check_parity
from scripts.gguf.llama_vision import prepared_image, sight_of
from scripts.predict.predict_with_llama import main as predict
from tests.support import bundles
from tests.support.modelfile import parse_modelfile
from tests.support.tiny_model import copy_model
from tests.support.vision_run import SIZES, image_question

PARITY = {"task": "vision", "vision": {"longest_edge": None}, "parity": {"max_kl": 0.02, "prompts": 2}}
GREEDY = {
    "system": None, "temperature": 0.0, "top_k": 40, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
    "max_new_tokens": 6, "seed": 0,
}  # fmt: skip


def run_settings(**run) -> dict:
    """Return the section of a vision run."""
    raw = {"dataset": "titles", "model": "tiny", "task": "vision", "quants": ["bf16"]}
    raw["deploy"] = {"parameters": {"temperature": 0.0, "repeat_penalty": 1.0}}
    return Run.model_validate(raw | run).model_dump(mode="json")


@pytest.fixture(scope="module")
def build(tiny_vision, tmp_path_factory):
    """Return a function that builds the bundle of a vision run from its section, and returns its folder."""
    folder = tmp_path_factory.mktemp("run")
    merged = copy_model(tiny_vision.merged, folder / "merged")
    write_manifest(merged, name="tiny", source="path", id=None, revision=None, license=None, architecture="mistral3")
    words = [merged, tiny_vision.gguf, "--mmproj", tiny_vision.mmproj, "--images", tiny_vision.data]
    words += ["--test", tiny_vision.test, "--output", folder / "parity.json", "--threads", "2"]
    assert check_parity([*map(str, words), "--settings", json.dumps({**PARITY, "generation": GREEDY})]) == 0
    (folder / "images.json").write_text(json.dumps({"files": {}}))
    verdict = {"run": "titles", "verdict": "hold", "reason": "no gate", "gates": []}
    (folder / "verdict.json").write_text(json.dumps(verdict))
    (folder / "training.json").write_text(json.dumps({"device": "cpu", "versions": {}, "seconds": 1.0}))
    titles = {"files": ["raw.jsonl"], "format": "messages", "images": str(tiny_vision.data)}

    def run(name: str, section: dict) -> Path:
        settings = bundles.bundle_settings("titles", section, merged, titles)
        words = ["--mmproj", tiny_vision.mmproj, "--images", folder / "images.json", "--test", tiny_vision.test]
        words += ["--parity", folder / "parity.json"]
        assert bundles.build(tiny_vision.gguf, merged, folder, folder / name, settings, *words) == 0
        return folder / name

    return run


@pytest.fixture(scope="module")
def bundle(build) -> Path:
    return build("bundle", run_settings())


def run_example(program: Path, *words: str) -> str:
    """Run an example program by itself; return what it prints."""
    return bundles.run_example(program, *words, "--max-tokens", str(GREEDY["max_new_tokens"]))


def test_the_towers_file_is_in_the_bundle_and_in_its_modelfile(bundle, tiny_vision):
    assert (bundle / "mmproj.gguf").read_bytes() == tiny_vision.mmproj.read_bytes()
    commands = parse_modelfile((bundle / "Modelfile").read_text())
    [model] = [path.name for path in bundle.glob("*.gguf") if path.name != "mmproj.gguf"]
    assert [value for name, value in commands if name == "from"] == [f"./{model}", "./mmproj.gguf"]
    assert "mmproj.gguf" in bundles.check_sums(bundle)
    record = json.loads((bundle / "provenance.json").read_text())
    assert set(record["made_from"]) == {"gguf", "mmproj", "images", "parity", "verdict"}


def test_the_card_says_how_to_show_an_image_and_what_a_server_does_otherwise(bundle):
    _, front, body = (bundle / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(front)["pipeline_tag"] == "image-text-to-text"
    assert "--mmproj mmproj.gguf --jinja --image page.png" in body
    assert "python example_llama_cpp.py page.png" in body
    assert "Of 4 images it sees the same tokens as well, 57 of them, in 6 conversations." in body
    assert "3 of the 4 images of the test get another number of tokens there" in body
    assert "--image-min-tokens 1 --image-max-tokens 16" in body
    assert "stood after the text" not in body
    assert not re.search(r"\{[{%]|\n\n\n", body)


def test_the_example_for_llama_cpp_answers_as_prediction_did(bundle, tiny_vision, tmp_path):
    rows = [{"id": "x", "messages": [*image_question("images/square.png", "Le titre ?")]}]
    rows[0]["messages"].append({"role": "assistant", "content": "x"})
    (tmp_path / "test.jsonl").write_text(json.dumps(rows[0]))
    words = [tiny_vision.gguf, "--mmproj", tiny_vision.mmproj, "--images", tiny_vision.data]
    words += ["--test", tmp_path / "test.jsonl", "--answers", tmp_path / "run" / "answers" / "bf16.jsonl"]
    words += ["--likelihood", tmp_path / "likelihood.jsonl"]
    settings = {"task": "vision", "vision": {"longest_edge": None}, "generation": GREEDY}
    assert predict([*map(str, words), "--settings", json.dumps(settings)]) == 0
    [row] = read_jsonl(tmp_path / "run" / "answers" / "bf16.jsonl")
    picture = str(tiny_vision.data / "images" / "square.png")
    printed = run_example(bundle / "example_llama_cpp.py", picture, "Le titre ?")
    assert printed == row["answer"] + "\n"
    assert printed != run_example(bundle / "example_llama_cpp.py", picture.replace("square", "wide"), "Le titre ?")


def test_the_example_for_transformers_runs_as_it_stands(bundle, tiny_vision):
    picture = str(tiny_vision.data / "images" / "large.png")
    assert run_example(bundle / "example_transformers.py", picture).endswith("\n")
    assert "Le titre ?" in (bundle / "example_transformers.py").read_text()


@pytest.mark.parametrize("name", SIZES)
def test_the_example_scales_images_as_training_did(bundle, tiny_vision, name):
    image = load_image(tiny_vision.data, f"images/{name}.png")
    expected = prepared_image(image, sight_of(tiny_vision.mmproj))
    found = runpy.run_path(str(bundle / "example_llama_cpp.py"), run_name="example")["scaled"](image)
    assert found.size == (expected.shape[1], expected.shape[0])
    assert abs(expected.astype(int) - numpy.asarray(found).astype(int)).max() <= 1


def test_the_example_scales_to_the_cells_of_training_whatever_the_size(bundle, tiny_vision):
    scaled = runpy.run_path(str(bundle / "example_llama_cpp.py"), run_name="example")["scaled"]
    sight = sight_of(tiny_vision.mmproj)
    for width in range(8, 700, 23):
        for height in range(8, 700, 29):
            rows, columns = image_grid(sight, (width, height))
            assert scaled(Image.new("RGB", (width, height))).size == (columns * 28, rows * 28), (width, height)


@pytest.mark.parametrize("name", ["example_llama_cpp.py", "example_transformers.py"])
def test_the_examples_turn_images_upright_and_put_what_is_transparent_on_white(bundle, tmp_path, name):
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    expected = Image.new("RGB", (20, 40), "white")
    expected.putpixel((19, 0), (0, 0, 255))
    found = runpy.run_path(str(bundle / name), run_name="example")["opened"](str(tmp_path / "a.png"))
    assert numpy.array_equal(numpy.asarray(found), numpy.asarray(expected))


def test_the_example_shows_smaller_images_where_the_run_had_them_smaller(build):
    folder = build("smaller", run_settings(vision={"longest_edge": 56}))
    assert "LONGEST_EDGE = 56\n" in (folder / "example_llama_cpp.py").read_text()
    assert "LONGEST_EDGE = 56\n" in (folder / "example_transformers.py").read_text()


@pytest.mark.parametrize(("parts", "first"), [(("images/a.png", "What?"), True), (("What?", "images/a.png"), False)])
def test_the_place_of_the_image_is_that_of_the_first_question_that_has_one(tiny_vision, tmp_path, parts, first):
    rows = [[{"role": "user", "content": "no image"}], image_question(*parts), image_question("images/b.png")]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    found = vision_limits(tiny_vision.mmproj, run_settings(), tmp_path / "test.jsonl", [])
    assert (found["image_first"], found["cell"]) == (first, 28)


def test_examples_with_images_are_refused(tiny_vision):
    examples = [*image_question("images/a.png", "What?"), {"role": "assistant", "content": "A."}]
    with pytest.raises(UserError, match="shows images as examples"):
        vision_limits(tiny_vision.mmproj, run_settings(), tiny_vision.test, examples)
