"""The shell of each step sets the variables that a step needs before Python starts."""

import os
import subprocess
from types import SimpleNamespace

from scripts.common.threads import OPENMP
from scripts.workflow.prepare import Prepared, shell_prefix


def variables(prepared: Prepared, **before: str) -> dict[str, str]:
    """Return the variables that a step sees whose workflow was called with `before`."""
    command = shell_prefix(prepared, own_environment=False) + "env"
    done = subprocess.run(["bash", "-c", command], env=before, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_a_step_gets_the_waiting_policy_of_threads_and_no_one_elses_python_settings(tmp_path):
    prepared = Prepared(SimpleNamespace(offline=False), [], tmp_path / "a workflow", in_containers=False)
    found = variables(prepared, PATH=os.environ["PATH"], PYTHONHOME="x", PYTHONDONTWRITEBYTECODE="1", HOME="home")
    assert found.items() >= OPENMP.items()
    assert (found["PYTHONPATH"], found["HOME"]) == (str(tmp_path / "a workflow"), "home")
    assert not {"PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "HF_HUB_OFFLINE"} & found.keys()


def test_offline_steps_and_those_in_containers_get_more(tmp_path):
    prepared = Prepared(SimpleNamespace(offline=True), [], tmp_path, in_containers=True)
    found = variables(prepared, PATH=os.environ["PATH"])
    assert found["HF_HUB_OFFLINE"] == "1"
    assert found["HOME"].endswith(".snakemake/home")
