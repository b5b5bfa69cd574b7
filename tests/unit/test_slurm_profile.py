"""profiles/slurm names rules: those that want a GPU, and those that go together or as arrays. All must be there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROFILE = (ROOT / "profiles/slurm/profile.yaml").read_text(encoding="utf-8")
RULE = re.compile(
    r"^(?:use rule (?P<of>\w+) as|rule) (?P<name>\w+)(?: with)?:\n(?P<body>(?:(?: .*)?\n)*)", re.MULTILINE
)


def rules() -> dict[str, str]:
    """Return the text of each rule, that of a copied one with what it is a copy of."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in RULE.finditer(path.read_text(encoding="utf-8")):
            found[rule["name"]] = found.get(rule["of"], "") + rule["body"]
    return found


def listed(name: str) -> list[str]:
    """Return a list of rules in the profile's definitions."""
    return re.findall(r'"(\w+)"', re.search(rf"- {name} = \[(.*)\]", PROFILE)[1])


def test_the_rules_that_want_a_gpu_are_those_that_go_to_its_partition():
    wanting = {name for name, text in rules().items() if re.search(r"^ +gpu=", text, re.MULTILINE)}
    assert wanting
    assert sorted(wanting) == sorted([*listed("training"), *listed("accelerated")])


def test_trainings_are_the_rules_that_write_checkpoints():
    writing = {name for name, text in rules().items() if "--checkpoints " in text}
    assert writing
    assert sorted(writing) == sorted(listed("training"))


def test_rules_that_go_together_or_as_arrays_are_there():
    arrays = re.search(r"slurm-array-jobs: (.*)", PROFILE)[1]
    groups = PROFILE.split("\ngroups:\n")[1].split("\n\n")[0]
    named = [*re.findall(r'"(\w+)"', arrays), *re.findall(r"^  (\w+):", groups, re.MULTILINE)]
    assert named
    assert not set(named) - rules().keys()
