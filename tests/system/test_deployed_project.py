"""A project that snakedeploy makes, as the Snakemake workflow catalog tells its readers to."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.files import read_json
from tests.support.checkout import copy_of_the_checkout
from tests.support.project import ROOT

URL = "https://github.com/acme/snaketune"
# Without the file in .venv that makes `import scripts` find this checkout.
SNAKEMAKE = """\
import sys
sys.path.append({packages!r})
sys.argv[0] = "snakemake"
from snakemake.cli import main
main()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Variables with which git takes this checkout, as tag v1, for the repository at URL."""
    folder = tmp_path_factory.mktemp("hosts")
    repository = folder / "acme/snaketune"
    repository.mkdir(parents=True)
    copy_of_the_checkout(repository)
    (folder / "gitconfig").write_text(f'[url "file://{folder}/"]\n\tinsteadOf = {URL.removesuffix("acme/snaketune")}\n')
    own = {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig"), "XDG_CACHE_HOME": str(folder / "cache")}
    person = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "--quiet"], ["add", "--all"], [*person, "commit", "--quiet", "-m", "All"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=repository, env=os.environ | own, check=True)
    return own


def snakemake(project: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run a Snakemake that finds no module of this workflow by itself; return its output."""
    [packages] = [path for path in sys.path if path.endswith("site-packages")]
    command = [sys.executable, "-S", "-c", SNAKEMAKE.format(packages=packages), *arguments]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    done = subprocess.run(
        command, cwd=project, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_project_made_by_snakedeploy_runs_the_tag_that_it_names_without_a_clone_of_the_user(environment, tmp_path):
    project = tmp_path / "project"
    deploy = [Path(sys.executable).parent / "snakedeploy", "deploy-workflow", URL, project, "--tag", "v1"]
    printed = subprocess.run(deploy, env=os.environ | environment, capture_output=True, text=True, check=True).stderr
    assert "error prone" not in printed
    printed = snakemake(project, environment, "-p", "--cores", "2", "results/datasets/captions/ingest.json")
    [checkout] = (project / ".snakemake/snaketune").iterdir()
    assert f"python .snakemake/snaketune/{checkout.name}/scripts/dataset/ingest_records.py" in printed
    assert read_json(project / "results/datasets/captions/ingest.json")
    # The same in a clone's own module; the profile finds its modules in the checkout.
    snakefile = project / "workflow/Snakefile"
    text = re.sub(r"github\(.*\)", f'"{checkout}/workflow/Snakefile"', snakefile.read_text(encoding="utf-8"))
    snakefile.write_text(text, encoding="utf-8")
    planned = snakemake(project, environment, "-n", "--configfile", "config/embedded.yaml")
    assert "output: results/embedded/runs/pii/bundle/SHA256SUMS" in planned


def test_the_files_for_the_catalog_say_what_is_there():
    catalog = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))
    deployment = catalog["usage"]["software-stack-deployment"]
    assert (deployment["conda"], deployment["apptainer"], deployment["report"]) == (True, True, True)
    # The catalog shows the page by itself, so that a relative link leads nowhere.
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "config/README.md").read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("https://")] == []
