"""The configuration: what is refused, with its place, and what overrides, sweeps and defaults make of it."""

import pytest
import yaml
from snakemake.utils import update_config

from scripts.config.expand import set_dotted
from scripts.config.load import ConfigError, load_config
from scripts.config.models import Model
from scripts.config.paths import files_at
from scripts.config.reference import ROOT
from scripts.config.runs import Run
from scripts.config.variants import answer_variants, shipped_variant
from tests.support.data import load

TABLE = load("config_faults.yaml")
GOOD, GATE = TABLE["good"], TABLE["gate"]


def good(changes):
    """Return the good configuration with values set at dotted places."""
    config = yaml.safe_load(GOOD)
    for place, value in changes.items():
        set_dotted(config, place, value)
    return config


def lines_for(config, files=(), roots=()):
    """Return the lines that the user sees."""
    with pytest.raises(ConfigError) as caught:
        load_config(config, files, roots)
    return caught.value.lines


def assert_lines(found, changes, expected):
    """Assert that the lines begin as a row of the table says."""
    expected = [expected] if isinstance(expected, str) else expected
    assert len(found) == len(expected), found
    for line, text in zip(found, expected, strict=True):
        place = [*changes][-1] + ("" if text.startswith((".", "[")) else ": ")
        assert line.startswith(text[1:] if text.startswith("/") else place + text)


@pytest.mark.parametrize(("changes", "expected"), TABLE["faults"], ids=lambda value: str(value)[:60])
def test_each_fault_is_one_line_with_its_place(changes, expected):
    assert_lines(lines_for(good(changes)), changes, expected)


def test_a_template_that_no_parser_can_follow_is_refused_with_its_place():
    [line] = lines_for(good({"runs.stories.strategies": {"fan": {"user": f"{{{{ {'(' * 999}1{')' * 999} }}}}"}}}))
    assert line.startswith("runs.stories.strategies.fan.user: ")
    assert line.endswith("is a template that is nested too deeply; simplify it")


def test_an_empty_configuration_names_what_is_missing():
    assert lines_for({}) == ["datasets: is missing", "models: is missing", "runs: is missing"]


@pytest.mark.parametrize("changes", TABLE["accepted"], ids=lambda changes: str(changes)[:60])
def test_what_is_near_a_fault_is_accepted_and_defaults_are_filled_in(changes):
    config = load_config(good(changes))
    assert all(run.lora.r == 16 for run in config.runs.values())


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """A working directory and the workflow's folder, each with some files."""
    here = ("data/coffee/qa.csv", "models/zen/config.json", "taken")
    for file in (*(f"here/{name}" for name in here), "beside/cards.jsonl", "beside/own.jinja"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path / "here")
    return ".", str(tmp_path / "beside")


@pytest.mark.parametrize(("changes", "expected"), TABLE["missing"], ids=lambda value: str(value)[:60])
def test_a_file_that_is_not_there_and_one_in_the_place_of_a_folder_are_named(roots, changes, expected):
    assert_lines(lines_for(good(changes), roots=roots), changes, expected)


def test_files_are_looked_for_beside_the_workflow_too_and_results_are_made(roots):
    changes = {
        "datasets.cards.files": ["data/*/*.csv", "car*.jsonl", "made/rows.jsonl"],
        "models.small.chat_template": "own.jinja",
        "models.other": {"path": "made/models/x"},
        "models.chatty": {"path": "models/zen", "chat_template": "chatml"},
        "pathvars.results": "made",
    }
    assert load_config(good(changes), roots=roots)
    assert files_at("car*.jsonl", roots) == ["../beside/cards.jsonl"]
    assert files_at("data/*/*.csv", roots) == ["data/coffee/qa.csv"]
    assert files_at("car*.jsonl", roots[:1]) == []


@pytest.mark.parametrize(("text", "fault"), TABLE["metrics"])
def test_a_faulty_file_of_metrics_is_one_line(tmp_path, text, fault):
    (tmp_path / "own.py").write_text(text)
    changes = {"runs.stories.score": {"metrics_from": str(tmp_path / "own.py")}, "gates.own": {**GATE, "metric": "own"}}
    [line] = lines_for(good(changes))
    assert line.startswith("runs.stories.score.metrics_from: ")
    assert fault in line


def test_two_runs_must_not_give_one_name_to_different_metrics(tmp_path):
    config = good({})
    for name in ("stories", "others"):
        (tmp_path / f"{name}.py").write_text(f"@metric('{name}', direction='lower')\ndef own(d): pass")
        score = {"metrics_from": str(tmp_path / f"{name}.py")}
        config["runs"][name] = {**config["runs"]["stories"], "score": score}
    [line] = lines_for(config)
    assert "the metric 'own' has another definition in" in line


def test_a_sweep_becomes_one_run_per_combination_with_readable_names():
    sweep = {"lora.r": [8, 16], "training.learning_rate": ["1e-4", 0.001]}
    config = load_config(good({"runs.stories.sweep": sweep, "gates.bleu": GATE | {"runs": ["stories"]}}))
    assert {name: (run.lora.r, run.training.learning_rate) for name, run in config.runs.items()} == {
        f"stories-r{rank}-learning_rate{rate}": (rank, rate) for rank in (8, 16) for rate in (0.0001, 0.001)
    }
    assert config.gates["bleu"].runs == list(config.runs)
    assert config.sweeps == {"stories": list(config.runs)}
    same_end = {"seed": [1], "generation.seed": [2], "training.adam_beta2": [0.99]}
    config = load_config(good({"runs.stories.sweep": same_end}))
    assert (list(config.runs), config.sweeps) == (["stories-seed1-generation.seed2-adam_beta2_0.99"], {})


def places_in_files(command_line=None, **texts):
    """Write configuration files; return file, line and place of each fault of what Snakemake makes of them."""
    config = {}
    for name, text in texts.items():
        with open(f"{name}.yaml", "w", encoding="utf-8") as file:
            file.write(text)
        update_config(config, yaml.safe_load(text))
    update_config(config, command_line or {})
    with pytest.raises(ConfigError) as caught:
        load_config(config, [f"{name}.yaml" for name in texts], (), command_line or {})
    return [line.rsplit(": ", 1)[0] for line in caught.value.lines]


def test_a_fault_is_named_with_the_file_and_the_line_of_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    anchored = GOOD + "    lora: &lora {r: 0}\n  other: {dataset: cards, model: small, lora: {<<: *lora}}\n"
    overlay = "override:\n  runs:\n    lora: {alpha: 0}\nruns:\n  stories: {dataset: card}\nmodels: {other: {}}\n"
    assert sorted(places_in_files({"runs": {"stories": {"seed": "x"}}}, good=anchored, overlay=overlay)) == [
        "--config: runs.stories.seed",
        "good.yaml:14: runs.other.lora.r",
        "good.yaml:14: runs.stories.lora.r",
        "overlay.yaml:3: override.runs.lora.alpha",
        "overlay.yaml:5: runs.stories.dataset",
        "overlay.yaml:6: models.other",
    ]
    assert places_in_files(twice=GOOD + "    tokens: {max_length: 256}\n") == ["twice.yaml:14: runs.stories.tokens"]
    sweep = "    lora: {alpha: 0}\n    sweep:\n      lora.r: [4, -8]\n      training.seed: [1, 2, 3]\n"
    assert places_in_files(good=GOOD + sweep) == [
        "good.yaml:14: runs.stories.lora.alpha",
        "good.yaml:17: runs.stories.sweep.training.seed",
        "good.yaml:16: runs.stories.sweep.lora.r",
    ]


def test_an_override_replaces_a_models_source_and_is_laid_over_every_run():
    hub = {"id": "org/name", "revision": "0123456789abcdef0123456789abcdef01234567"}
    changes = {
        "models.small": {"hub": hub, "architecture": "llama"},
        "override": {"models": {"embedded": {"layers": 2}}, "runs": {"lora": {"alpha": 8}}},
        "runs.stories.lora": {"r": 4, "alpha": 64},
    }
    result = load_config(good(changes))
    assert result.models["small"].hub is None
    assert result.models["small"].embedded.layers == 2
    assert result.models["small"].architecture == "llama"
    assert (result.runs["stories"].lora.r, result.runs["stories"].lora.alpha) == (4, 8)


def read(*names):
    """Return files of config/ laid over each other."""
    config, files = {}, [ROOT / "config" / name for name in names]
    for file in files:
        update_config(config, yaml.safe_load(file.read_text(encoding="utf-8")))
    return load_config(config, files)


RECIPES = sorted(ROOT.glob("config/recipes/*.yaml"))


@pytest.mark.parametrize("name", ["config.yaml", *(f"recipes/{path.name}" for path in RECIPES)])
def test_a_shipped_configuration_is_valid_with_and_without_the_overlay(name):
    plain, embedded = read(name), read(name, "embedded.yaml")
    assert all(model.embedded is not None for model in embedded.models.values())
    assert embedded.pathvars == {"results": f"{plain.pathvars.get('results', 'results')}/embedded"}
    assert read("embedded.yaml", name) == embedded, "the order does not matter"
    methods = [{name: run.method for name, run in config.runs.items()} for config in (plain, embedded)]
    assert methods[0] == methods[1]


@pytest.mark.parametrize("name", [f"recipes/{path.name}" for path in RECIPES if path.stem != "titles"])
def test_every_recipe_for_texts_can_be_trained_on_the_demos_model(name):
    small = read(name, "small.yaml")
    assert {run.model for run in small.runs.values()} == {"smollm2"}  # reports call it by this name
    assert small.models["smollm2"] == read("config.yaml").models["smollm2"]
    assert small.pathvars["results"].endswith("/small")


def test_a_small_model_and_every_stand_in_are_on_the_cpu():
    models = ({"path": "folder"}, {"path": "folder", "device": "cpu"}, {"embedded": {}})
    assert [Model(**model).on_cpu for model in models] == [False, True, True]


@pytest.mark.parametrize(("settings", "variants", "shipped"), TABLE["variants"])
def test_the_variants_of_a_run_of_which_the_named_one_or_the_last_is_shipped(settings, variants, shipped):
    asked = Run(dataset="d", model="m", **settings)
    assert (answer_variants(asked), shipped_variant(asked)) == (variants, shipped)
