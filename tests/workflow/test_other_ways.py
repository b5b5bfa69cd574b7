"""From raw file to bundle on other ways: Llama, all weights, a sweep, packing, sampling, no validation, no gates."""

import pytest

from scripts.common.files import check_manifest, read_json
from tests.support.project import Project

CONFIG = """
datasets:
  cards:
    files: [data/cards.jsonl]
    format: prompt_completion
    language: fr
    splits: {train: 0.7, validation: 0.0, test: 0.3, seed: 3}
models:
  small:
    architecture: llama
    embedded: {layers: 1, vocabulary: 512, context: 256, documents: 60, steps: 2, languages: [fr]}
runs:
  whole:
    dataset: cards
    model: small
    method: full
    tokens: {max_length: 256}
    training: {max_steps: 2, micro_batch: 2, accumulation: 1, learning_rate: 1.0e-3}
    quants: [iq4_nl]
    generation: {max_new_tokens: 4, temperature: 0.8, top_p: 0.9}
    parity: {prompts: 2, max_kl: 1.0}
    score: {bootstrap: 100}
  swept:
    dataset: cards
    model: small
    method: lora
    sweep: {lora.r: [4, 8]}
    tokens: {max_length: 256, packing: true}
    training: {max_steps: 2, micro_batch: 2, accumulation: 1, learning_rate: 1.0e-3, precision: bf16}
    quants: [q5_k_m]
    generation: {max_new_tokens: 4}
    parity: {prompts: 2, max_kl: 1.0}
    score: {bootstrap: 100}
"""
RUNS = ("whole", "swept-r4", "swept-r8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The project in which everything has run, and what Snakemake printed."""
    project = Project.made_in(tmp_path_factory.mktemp("ways"))
    project.write("config/config.yaml", CONFIG)
    done = project.snakemake("--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    return project, done.stdout


@pytest.mark.parametrize("run", RUNS)
def test_every_run_ends_in_a_bundle_whose_tokens_are_those_of_training(made, run):
    folder = made[0].folder / "results/runs" / run
    assert (folder / "bundle/SHA256SUMS").is_file()
    assert (folder / "parity.json").is_file()
    assert read_json(folder / "verdict.json")["verdict"] == "hold"


def test_all_weights_are_trained_without_an_adapter(made):
    folder = made[0].folder / "results/runs/whole"
    assert check_manifest(folder / "merged/manifest.json", hashes=True)["method"] == "full"
    assert sorted(path.stem for path in (folder / "scores").glob("*.json")) == ["base", "bf16", "iq4_nl", "merged"]


@pytest.mark.parametrize("rank", [4, 8])
def test_a_sweep_trains_one_run_for_each_value_packed_where_asked(made, rank):
    folder = made[0].folder / f"results/runs/swept-r{rank}"
    assert read_json(folder / "adapter/adapter_config.json")["r"] == rank
    facts = read_json(folder / "training.json")
    assert (facts["packing"], facts["precision"]) == ("on", "bf16")


def test_the_end_shows_every_run(made):
    assert all(f"\n{run} hold: " in made[1] for run in RUNS)
