"""What profiles/default makes of a machine: limits, GPUs for each job, and faults that can be found."""

import os
import shutil
import subprocess
import sys
import sysconfig

import pytest

from tests.support.project import ROOT, run_snakemake

JOBS = """
rule all:
    input: expand("{job}", job=["a", "b", "c", "all_gpus"])

rule job:
    output: "{job}"
    resources: gpu=lambda wildcards: 99 if wildcards.job == "all_gpus" else 1
    shell: "PYTHON JOB {resources.gpu} 1.5 > {output}"

rule large:
    output: "large"
    resources: gpu=1, mem_mb=10**9
    shell: "echo {resources.mem_mb} > {output}"
"""


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    """A folder with this profile and a workflow whose jobs take GPUs."""
    folder = tmp_path_factory.mktemp("profile")
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    job = ROOT / "tests" / "support" / "locking_job.py"
    (folder / "Snakefile").write_text(JOBS.replace("PYTHON", sys.executable).replace("JOB", str(job)))
    return folder


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """The environment of a machine with two GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return {"SNAKETUNE_DEVICES": "0,1", "SNAKETUNE_GPU_LOCKS": str(tmp_path), "PYTHONPATH": str(ROOT)}


def test_jobs_run_side_by_side_on_gpus_of_their_own_and_none_asks_for_too_many(workflow, two_gpus):
    """Jobs find out if they share one (tests/support/locking_job.py), and fail then."""
    done = run_snakemake(workflow, "--cores", "3", environment=two_gpus)
    assert done.returncode == 0, done.stdout
    had = {job: (workflow / job).read_text().strip() for job in ("a", "b", "c", "all_gpus")}
    assert set(had.values()) == {"0", "1", "0,1"}
    assert had["all_gpus"] == "0,1"


def test_a_job_that_asks_for_more_memory_than_there_is_runs_all_the_same(workflow, two_gpus):
    done = run_snakemake(workflow, "large", environment=two_gpus)
    assert done.returncode == 0, done.stdout
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1_000_000
    assert 0 < int((workflow / "large").read_text()) <= physical * 0.9


@pytest.mark.parametrize("option", [["-s", f"{ROOT}/Snakefile"], [f"--snakefile={ROOT}/Snakefile"]])
def test_a_snakemake_that_is_not_of_the_venv_reads_the_profile_from_any_folder(tmp_path, option):
    code = (
        f"import sys; sys.path.append({sysconfig.get_paths()['purelib']!r}); from snakemake.cli import parse_args;"
        "print(parse_args(sys.argv[1:])[1].resources)"
    )
    # No path files (-S) and not this folder on the path (-P), as elsewhere; it has a package of that name, another's.
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").touch()
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", code, *option],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mem_mb" in done.stdout
