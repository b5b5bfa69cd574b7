"""From raw file to bundle on other tasks and in other ways.

A token classifier, prompting, strategies, redaction, a shared training, Llama, all weights, packing, sampling, no
validation split, no gates.
"""

import json

import pytest

from scripts.common.files import check_manifest, read_json, read_jsonl, sha256_of
from tests.support.project import Project, raw_records

NAME = "Zorro"
CONFIG = """
datasets:
  marked:
    files: [data/marked.jsonl]
    format: spans
    label: language
    system: List the names as JSON.
    deduplicate: {near: false}
    splits: {train: 0.6, validation: 0.2, test: 0.2, seed: 1}
  cards:
    files: [data/cards.jsonl]
    test_files: [data/held_out.jsonl]
    format: prompt_completion
    language: fr
    deduplicate: {near: false, threshold: 1.0}
    splits: {train: 0.8, validation: 0.2, test: 0.0}
    redact: {run: finder, placeholder: "[{label}]"}
  unvalidated:
    files: [data/cards.jsonl]
    test_files: [data/held_out.jsonl]
    format: prompt_completion
    deduplicate: {near: false, threshold: 1.0}
    splits: {train: 1.0, validation: 0.0, test: 0.0}
models:
  small:
    embedded: {layers: 1, vocabulary: 512, context: 1024}
  llama:
    architecture: llama
    embedded: {layers: 1, vocabulary: 512, context: 256}
runs:
  finder:
    dataset: marked
    model: small
    task: token_classification
    method: head
    head: {dropout: 0.0}
    tokens: {max_length: 64, window_overlap: 16}
    training: {epochs: 40, micro_batch: 4, accumulation: 1, learning_rate: 3.0e-2, scheduler: linear}
    score: {bootstrap: 100, price_per_hour: 2.0}
  asked:
    dataset: marked
    model: small
    method: prompt
    strategies: {shown: {shots: 2}, bare: {}}
    strategy: shown
    tokens: {max_length: 512}
    generation: {max_new_tokens: 4, batch_size: 1}
    score: {bootstrap: 100, price_per_hour: 2.0}
  cards:
    dataset: cards
    model: small
    lora: {r: 4, alpha: 8}
    sweep: {generation.temperature: [0, 1.5]}
    tokens: {max_length: 256, packing: true}
    training: {max_steps: 2, micro_batch: 2, accumulation: 1, learning_rate: 1.0e-3}
    quants: [bf16]
    variants: [adapter, bf16]
    strategies: {plain: {}, loud: {system: CRIE, user: "{{ prompt }} !"}}
    strategy: loud
    generation: {max_new_tokens: 4}
    parity: {prompts: 2, max_kl: 1.0}
    score: {bootstrap: 100}
  whole:
    dataset: unvalidated
    model: llama
    method: full
    tokens: {max_length: 256}
    training: {max_steps: 2, micro_batch: 2, accumulation: 1, learning_rate: 1.0e-3}
    quants: [iq4_nl]
    generation: {max_new_tokens: 4, temperature: 0.8, top_p: 0.9}
    parity: {prompts: 2, max_kl: 1.0}
    score: {bootstrap: 100}
gates:
  found: {metric: entity_recall, comparison: above, threshold: 0.1, runs: [finder]}
"""


def marked_records(count: int = 60) -> list[dict]:
    """Return texts in which one name stands, or none."""
    rows = []
    for i in range(count):
        before = f"Le numéro {i} passe à " if i % 2 else f"Number {i} passes to "
        text = f"{before}{NAME} ce soir." if i % 3 else f"{before}personne, {i * 7}."
        spans = [[len(before), len(before) + len(NAME), "PERSON"]] if i % 3 else []
        rows.append({"text": text, "spans": spans, "language": "fr" if i % 2 else "en"})
    return rows


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project in which everything has run, and what Snakemake printed."""
    project = Project.made_in(tmp_path_factory.mktemp("tasks"))
    project.write("config/config.yaml", CONFIG)
    project.write("data/marked.jsonl", lines(marked_records()))
    cards = [{**row, "completion": f"{row['completion']} {NAME} marque."} for row in raw_records(30)]
    project.write("data/cards.jsonl", lines(cards[:24]))
    project.write("data/held_out.jsonl", lines(cards[24:]))
    done = project.snakemake("--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    return project, done.stdout


def test_the_classifier_finds_the_name_in_texts_of_both_languages(made):
    scores = read_json(made[0].folder / "results/runs/finder/scores/merged.json")
    assert scores["metrics"]["entity_f1"]["value"] > 0.9
    assert scores["metrics"]["cost_per_1000"]["value"] > 0
    assert (made[0].folder / "results/runs/finder/confusion/merged.svg").is_file()


def test_the_classifiers_bundle_is_whole_and_loads_without_peft(made):
    from transformers import AutoModelForTokenClassification

    folder = made[0].folder / "results/runs/finder"
    sums = (folder / "bundle/SHA256SUMS").read_text().splitlines()
    assert all(sha256_of(folder / "bundle" / line.split(maxsplit=1)[1]) == line.split()[0] for line in sums)
    check_manifest(folder / "merged/manifest.json", hashes=True)
    model = AutoModelForTokenClassification.from_pretrained(folder / "merged")
    assert set(model.config.id2label.values()) == {"O", "B-PERSON", "I-PERSON"}


def test_no_name_is_left_in_the_splits_that_another_model_trains_on(made):
    folder = made[0].folder / "results/datasets/cards"
    for split in ("train", "test"):
        text = (folder / f"{split}.jsonl").read_text(encoding="utf-8")
        assert "[PERSON] marque." in text
        assert NAME not in text
    facts = read_json(folder / "redaction.json")
    assert NAME not in json.dumps(facts)
    assert "PERSON" in json.dumps(facts)


def test_a_file_of_its_own_is_the_test_split(made):
    origins = {
        row["origin"].rpartition(":")[0] for row in read_jsonl(made[0].folder / "results/datasets/cards/test.jsonl")
    }
    assert origins == {"data/held_out.jsonl"}


def test_prompting_answers_with_the_base_alone_and_shows_examples(made):
    folder = made[0].folder / "results/runs/asked"
    assert [path.stem for path in (folder / "scores").glob("*.json")] == ["base"]
    assert not (folder / "bundle").exists()
    answers = list(read_jsonl(folder / "answers/base.jsonl"))
    compared = list(read_jsonl(folder / "validation/answers/base.jsonl"))
    assert [row["prompt_set"] for row in compared] == [
        *["test"] * (len(compared) // 2),
        *["bare"] * (len(compared) // 2),
    ]
    assert all(
        [m["role"] for m in row["messages"]] == ["system", *["user", "assistant"] * 2, "user"] for row in answers
    )


def test_runs_that_differ_in_temperature_share_one_training(made):
    runs = made[0].folder / "results/runs"
    assert (runs / "cards-temperature0/adapter/manifest.json").is_file()
    assert not (runs / "cards-temperature1.5/adapter").exists()
    answers = [(runs / f"cards-temperature{t}/answers/adapter.jsonl").read_text() for t in ("0", "1.5")]
    assert answers[0] != answers[1]
    assert all((runs / f"cards-temperature{t}/bundle/SHA256SUMS").is_file() for t in ("0", "1.5"))


def test_the_runs_of_the_sweep_are_compared_on_the_validation_split(made):
    choice = read_json(made[0].folder / "results/sweeps/cards/choice.json")
    assert [row["run"] for row in choice["runs"]] == ["cards-temperature0", "cards-temperature1.5"]


def test_packing_is_recorded(made):
    assert read_json(made[0].folder / "results/runs/cards-temperature0/training.json")["packing"] == "on"


def test_all_weights_are_trained_without_an_adapter(made):
    folder = made[0].folder / "results/runs/whole"
    assert check_manifest(folder / "merged/manifest.json", hashes=True)["method"] == "full"
    assert sorted(path.stem for path in (folder / "scores").glob("*.json")) == ["base", "bf16", "iq4_nl", "merged"]
    assert (folder / "parity.json").is_file()
    assert (folder / "bundle/SHA256SUMS").is_file()


def test_a_run_without_gates_is_held(made):
    assert read_json(made[0].folder / "results/runs/whole/verdict.json")["verdict"] == "hold"
    assert "\nwhole hold: " in made[1]


def test_each_strategy_is_answered_on_the_validation_split_and_the_chosen_one_is_served(made):
    folder = made[0].folder / "results/runs/cards-temperature0"
    assert {row["prompt_set"] for row in read_jsonl(folder / "answers/bf16.jsonl")} == {"test"}
    rows = list(read_jsonl(folder / "validation/answers/bf16.jsonl"))
    asked = {name: [row["messages"] for row in rows if row["prompt_set"] == name] for name in ("test", "plain")}
    assert len(asked["test"]) == len(asked["plain"]) > 0
    assert all(messages[0] == {"role": "system", "content": "CRIE"} for messages in asked["test"])
    assert all(messages[-1]["content"].endswith(" !") for messages in asked["test"])
    assert all(message["role"] == "user" for messages in asked["plain"] for message in messages)
    assert "CRIE" in (folder / "bundle/Modelfile").read_text(encoding="utf-8")


def test_one_table_compares_all_runs_of_a_dataset(made):
    table = (made[0].folder / "results/leaderboard.csv").read_text(encoding="utf-8").splitlines()
    header = table[0].split(",")
    rows = [dict(zip(header, line.split(","), strict=False)) for line in table[1:]]
    marked = [row for row in rows if row["dataset"] == "marked"]
    assert [(row["run"], row["variant"]) for row in marked] == [("finder", "merged"), ("asked", "base")]
    assert all(row["entity_f1"] and row["cost_per_1000"] for row in marked)


def test_a_second_run_does_nothing(made):
    assert not made[0].planned()


@pytest.mark.parametrize(
    ("old", "new", "again", "kept"),
    [
        ("dropout: 0.0", "dropout: 0.5", {"train_head", "merge_head", "predict_spans"}, {"tokenize_spans"}),
        ('"[{label}]"', '"<{label}>"', {"redact_records", "split_records", "train_adapter"}, {"train_head"}),
        ("shots: 2", "shots: 3", {"predict_with_transformers", "score_answers"}, {"train_head", "train_adapter"}),
        ("[0, 1.5]", "[0, 1.2]", {"predict_with_llama", "build_bundle"}, {"train_adapter", "merge_adapter"}),
        ("price_per_hour: 2.0", "price_per_hour: 3.0", {"score_answers"}, {"predict_spans", "train_head"}),
    ],
)
def test_an_edit_runs_what_depends_on_it_and_keeps_the_rest(made, old, new, again, kept):
    with made[0].edited("config/config.yaml", lambda text: text.replace(old, new)):
        planned = made[0].planned()
    assert again <= planned.keys()
    assert not kept & planned.keys()
