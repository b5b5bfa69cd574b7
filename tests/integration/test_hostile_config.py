"""A hostile configuration, through Snakemake itself: nothing in it is run, and what can't be used is one clear line."""

import itertools
import json
from pathlib import Path

import pytest
import yaml

from scripts.common.files import read_json
from tests.support.dataset_steps import write_lines
from tests.support.project import CONFIG, Project, raw_records

ODD_NAMES = (
    "it's.jsonl", '"q".jsonl', "$(touch ran).jsonl", "`touch ran`.jsonl", "a;touch ran.jsonl", "a&b|c>ran.jsonl",
    "a*b.jsonl", "[a].jsonl", "été🙂.jsonl", "\\x.jsonl", "~.jsonl", "#c.jsonl", "%s.jsonl",
)  # fmt: skip
REFUSED_PATHS = {
    "{dataset}.jsonl": "has braces, which Snakemake would fill in; rename it",
    "data/*.jsonl": "matches 'data/{dataset}.jsonl', which has braces, which Snakemake would fill in; rename it",
    "--log=ran.jsonl": "starts like an option; write './--log=ran.jsonl'",
    "a\x1b[2J.jsonl": "has control characters; rename it",
    "a\u202elnosj.jsonl": "has control characters; rename it",
}
REFUSED_NAMES = ("../evil", "a b", "$(touch ran)", "-x", "a/b", ".hidden", "a\nb", "ﬀ", "а", "a{b}", "x;touch ran", "")


@pytest.fixture
def project(tmp_path) -> Project:
    return Project.made_in(tmp_path)


def faults(project: Project, config: str) -> list[str]:
    """Return what Snakemake says of a configuration that has faults."""
    project.write("config/config.yaml", config)
    done = project.snakemake("-n", "--quiet", "host", "reason", "rules")
    assert done.returncode == 1, done.stdout
    return done.stdout.splitlines()


def test_paths_with_characters_that_mean_something_to_a_shell_are_read_and_nothing_is_run(project):
    config = yaml.safe_load(CONFIG)
    for name in ODD_NAMES:
        write_lines(project.folder / name, raw_records())
    config["datasets"]["odd"] = {**config["datasets"]["cards"], "files": [*ODD_NAMES]}
    project.write("config/config.yaml", yaml.safe_dump(config, allow_unicode=True))
    before = {path.name for path in project.folder.iterdir()}
    done = project.snakemake("results/datasets/odd/ingest.json", "--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    sources = read_json(project.folder / "results/datasets/odd/ingest.json")["sources"]
    assert {Path(source["source"]).name for source in sources} == {*ODD_NAMES}
    assert {path.name for path in project.folder.iterdir()} - before <= {"results", ".snakemake"}


def test_names_and_paths_that_would_be_something_else_are_refused_all_at_once(project):
    config = yaml.safe_load(CONFIG)
    section, run = config["datasets"]["cards"], config["runs"]["cards"]
    project.write("data/{dataset}.jsonl", "")
    for number, path in enumerate(REFUSED_PATHS):
        config["datasets"][f"odd{number}"] = {**section, "files": [path]}
    config["runs"] |= dict.fromkeys(REFUSED_NAMES, run)
    config["datasets"] |= dict.fromkeys(REFUSED_NAMES, section)
    said = [line.removeprefix("config/config.yaml:1: ") for line in faults(project, json.dumps(config))]
    for number, fault in enumerate(REFUSED_PATHS.values()):
        assert sum(line.startswith(f"datasets.odd{number}.files") and line.endswith(fault) for line in said) == 1
    for kind in ("runs", "datasets"):
        lines = [line for line in said if line.startswith(f"{kind}.") and "must start with a letter or digit" in line]
        assert len(lines) == len(REFUSED_NAMES)
    assert all(line.isprintable() for line in said)


def test_aliases_that_stand_for_billions_are_refused(project):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for above, name in itertools.pairwise("abcdefghij"):
        bomb += f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n"
    (line,) = [line for line in faults(project, CONFIG + bomb) if "its aliases" in line]
    assert line.startswith("config/config.yaml: its aliases expand to 1")
    assert line.endswith("entries; write a configuration without nested aliases")
