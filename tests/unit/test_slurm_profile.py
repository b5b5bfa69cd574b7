"""profiles/slurm names rules: those that want a GPU, and those that go together or as arrays. All must be there."""

import re
from pathlib import Path

import pytest
import yaml

from scripts.workflow.slurm import VARIABLES, check_variables
from tests.support.project import run_snakemake
from tests.support.rules import rules

ROOT = Path(__file__).resolve().parents[2]
PROFILE = (ROOT / "profiles/slurm/profile.yaml").read_text(encoding="utf-8")


def listed(name: str) -> list[str]:
    """Return a list of rules in the profile's definitions."""
    return re.findall(r'"(\w+)"', re.search(rf"- {name} = \[(.*)\]", PROFILE)[1])


def test_the_rules_that_the_profile_names_are_there_and_those_that_train_or_want_a_gpu():
    there = rules()
    wanting = {name for name, text in there.items() if re.search(r"^ +gpu=", text, re.MULTILINE)}
    writing = {name for name, text in there.items() if "--checkpoints " in text}
    assert wanting == {*listed("training"), *listed("accelerated"), *listed("alone")}
    assert writing == set(listed("training")) != set()
    arrays = re.search(r"slurm-array-jobs: (.*)", PROFILE)[1]
    groups = PROFILE.split("\ngroups:\n")[1].split("\n\n")[0]
    named = {*re.findall(r'"(\w+)"', arrays), *re.findall(r"^  (\w+):", groups, re.MULTILINE)}
    assert set() < named <= there.keys()


@pytest.fixture
def said(tmp_path, scontrol):
    """Return a function: what a dry run of a small workflow says whose profile is a changed copy of this one."""

    def run(written: str, changed: str) -> str:
        assert PROFILE.count(written) == 1
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/profile.yaml").write_text(PROFILE.replace(written, changed), encoding="utf-8")
        (tmp_path / "Snakefile").write_text("rule all:\n    shell: 'true'\n")
        words = ("-n", "--quiet", "all", "--workflow-profile", "mine")
        done = run_snakemake(tmp_path, *words, environment={**scontrol, "PYTHONPATH": str(ROOT)})
        return done.stdout if done.returncode else ""

    return run


def test_snakemake_ends_with_one_line_on_a_variable_that_cannot_be(said, monkeypatch):
    *before, last = said("warning: 300", "warning: soon").splitlines()
    assert last.startswith("mine/profile.yaml: 'warning' is 'soon': set it to whole seconds from 1 to 65535")
    assert len(before) <= 1
    monkeypatch.setattr("sys.argv", ["snakemake", "-n"])
    good = yaml.safe_load(PROFILE)["__variables__"]
    bad = {
        "warning": (0, True, 1.5, 65536), "arrays": ("maybe", 1), "gpu_model": ("a b", "a100-80gb"),
        "partition": ("a b",), "account": (["a"],), "qos": (True,), "gpu_partition": ("a;b",),
    }  # fmt: skip
    assert bad.keys() == VARIABLES.keys()
    for name, value in ((name, value) for name, values in bad.items() for value in values):
        with pytest.raises(SystemExit, match=rf"^profiles/slurm/profile.yaml: '{name}' is .*: set it to "):
            check_variables({**good, name: value})
    good["acount"] = good.pop("account")
    with pytest.raises(SystemExit, match=r"__variables__ has no 'account': add it, with a name"):
        check_variables(good)


def test_variables_that_a_cluster_takes_are_taken(said):
    written = PROFILE[PROFILE.index("  partition:") : PROFILE.index("__definitions__")]
    taken = 'partition: "cpu,long"\n  account: 4711\n  qos:\n  gpu_partition: gpu-a\n  gpu_model: h100_80.gb'
    assert said(written, f"  {taken}\n  warning: 60\n  arrays: true\n\n") == ""
