"""The notebooks, executed from top to bottom on the real small base; one loses its machine in mid-training."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from scripts.common.files import read_json, sha256_of
from scripts.config.expand import merged
from scripts.config.load import load_config
from tests.support.checkout import copy_of_the_checkout
from tests.support.process_tree import kill, stop_tree, wait_until_gone
from tests.support.project import ROOT, run_snakemake

NOTEBOOKS = ROOT / "notebooks"
OWN_CELLS = {"title", "settings", "f1-text", "f1"}
FEW = {
    "tokens": {"max_length": 256},
    "training": {"max_steps": 6, "checkpoint_steps": 1, "micro_batch": 2, "accumulation": 1},
    "generation": {"max_new_tokens": 8, "test_records": 4},
    "parity": {"prompts": 2},
    "quants": ["q4_k_m"],
    "variants": ["base", "adapter", "q4_k_m"],
}
FOOTBALL = {"runs": {"football": FEW}, "gates": {"quantization": {"baseline": "adapter"}}}
PII = {"datasets": {"pii": {"max_records": 120}}, "runs": {"pii": {"head": {"layer": 6}, "training": {"epochs": 2}}}}
PATIENCE = 900  # seconds for what takes one or two minutes where nothing else computes


def read(name: str) -> nbformat.NotebookNode:
    """Return a notebook."""
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def program(path: Path, script: str) -> None:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def execute_cell(cell: str, work: Path, printed: str = "", **names) -> tuple[dict, list[list[str]]]:
    """Execute one cell with names of earlier cells; programs are not run, they print `printed`.

    Returns the names that the cell leaves, and the commands that it would run.
    """
    [source] = [one.source for one in read("football_colab").cells if one.id == cell]
    [start] = [one.source for one in read("football_colab").cells if one.id == "start"]
    imports = start[: start.index("from IPython")]
    commands = []

    def run(*command, folder=None):
        commands.append([str(word) for word in command])
        return printed

    names |= {"WORK": work, "ENVIRONMENT": dict(os.environ), "run": run, "Markdown": str, "display": lambda shown: None}
    exec(imports, names)
    exec(source, names)
    return names, commands


class Machine:
    """A machine that runs a notebook with other settings: WORK is lost with it, STORAGE is not."""

    def __init__(self, name: str, folder: Path, **settings):
        self.work, self.storage = folder / "machine/snaketune", folder / "storage"
        self.work.mkdir(parents=True)
        (self.work / ".venv").symlink_to(sys.prefix)
        self.notebook = read(name)
        settings |= {"WORK": str(self.work), "STORAGE": str(self.storage)}
        [place] = [i for i, cell in enumerate(self.notebook.cells) if "parameters" in cell.metadata.get("tags", ())]
        source = "\n".join(f"{key} = {value!r}" for key, value in settings.items())
        self.notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source))
        self.client = NotebookClient(self.notebook, timeout=PATIENCE, resources={"metadata": {"path": str(folder)}})

    def run(self) -> None:
        """Run all cells; an error in one is raised."""
        self.client.execute()

    def run_until(self, *patterns: str) -> None:
        """Run cells until the storage has a file of each pattern, then lose the machine: processes and disk."""
        ended: list[Exception | None] = []

        def execute():
            try:
                ended.append(self.client.execute() and None)
            except DeadKernelError as error:
                ended.append(error)

        thread = threading.Thread(target=execute)
        thread.start()
        end = time.monotonic() + PATIENCE
        while not all(list(self.storage.glob(pattern)) for pattern in patterns):
            assert thread.is_alive(), ended
            assert time.monotonic() < end, f"not all of {', '.join(patterns)} came"
            time.sleep(0.05)
        tree = stop_tree(self.client.km.provisioner.pid)
        kill(tree)
        wait_until_gone(tree - {self.client.km.provisioner.pid})
        thread.join(PATIENCE)
        assert isinstance(ended[0], DeadKernelError)
        shutil.rmtree(self.work)

    def printed(self, cell: str) -> str:
        """Return the texts of a cell's outputs."""
        [outputs] = [one.outputs for one in self.notebook.cells if one.id == cell]
        return "\n".join(
            output.get("text") or "\n".join(map(str, output["data"].values()))
            for output in outputs
            if output.output_type in ("stream", "display_data")
        )


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """One file from which git fetches this checkout, as a user would upload it."""
    folder = copy_of_the_checkout(tmp_path_factory.mktemp("repository") / "snaketune")
    git = ("git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", folder)
    for words in ("init -q -b main", "add --all", "commit -q -m all", "bundle create -q ../snaketune.bundle main"):
        subprocess.run([*git, *words.split()], check=True)
    return folder.parent / "snaketune.bundle"


@pytest.fixture(autouse=True)
def platform(monkeypatch, tmp_path):
    """Set what platforms set for their own Python, and let nvidia-smi find no GPU."""
    program(tmp_path / "bin/nvidia-smi", "exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("MPLBACKEND", "module://that_only_the_platform_has")


def test_notebooks_are_valid_share_their_cells_and_have_no_outputs():
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    assert names == ["football_colab", "pii_kaggle"]
    shared = []
    for name in names:
        notebook = read(name)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
        shared.append({cell.id: cell.source for cell in notebook.cells if cell.id not in OWN_CELLS})
    assert shared[0] == shared[1]


def test_a_machine_without_python_3_11_gets_one_beside_its_own_packages(tmp_path, monkeypatch):
    work = tmp_path / "content/snaketune"
    python = tmp_path / "content/snaketune-pythons/cpython-3.11.18-linux-x86_64-gnu/bin/python3.11"
    program(python, "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done, (pip, uv, make) = execute_cell("environment", work)
    assert pip[1:6] == ["-m", "pip", "install", "--quiet", "--target"]
    assert pip[6] == str(tmp_path / "content/snaketune-tools")
    assert uv == [f"{pip[6]}/bin/uv", "python", "install", "--quiet", "--no-bin", "3.11"]
    assert done["ENVIRONMENT"]["UV_PYTHON_INSTALL_DIR"] == str(tmp_path / "content/snaketune-pythons")
    assert make == ["make", ".venv/installed", f"PYTHON={python}"]


@pytest.mark.parametrize(
    ("gpu", "torch_sees_it", "training", "fault"),
    [
        ("Tesla T4, 15360, 7.5, 590.1", True, "12.1", None),
        ("Tesla T4, 15360, 7.5, 550.54", False, "12.1", "needs NVIDIA driver 580, but this platform has 550.54"),
        ("Tesla P100, 16384, 6.0, 590.1", True, "12.1", "no kernels for Tesla P100"),
        ("Tesla T4, 15360, 7.5, 590.1", True, "15.8", "needs 15.8 GiB by the estimate, and this GPU has less"),
    ],
)
def test_a_gpu_is_checked_before_anything_is_downloaded(tmp_path, gpu, torch_sees_it, training, fault):
    program(tmp_path / "bin/nvidia-smi", f"echo {gpu}")
    program(tmp_path / ".venv/bin/python", f"exit {int(not torch_sees_it)}")
    settings = {"RECIPE": "football", "RUN": "football", "GPU": "t4", "CHANGES": {}}
    plan = f"football and 1 more   {training}   7.0  16 GB (T4)\n"
    if fault:
        with pytest.raises(RuntimeError, match=fault):
            execute_cell("gpu", tmp_path, plan, **settings)
    else:
        names, _ = execute_cell("gpu", tmp_path, plan, **settings)
        assert names["CONFIG"][1] == "config/gpu/t4/football.yaml"
        names, _ = execute_cell("gpu", tmp_path, "football is not known before its config.json is here\n", **settings)
        assert names["NOTE"].startswith("There is no estimate")


@pytest.mark.parametrize("place", ["colab", "kaggle", "elsewhere"])
def test_the_platform_decides_on_storage_and_secrets_even_if_kaggle_has_the_packages_of_colab(place, monkeypatch):
    mounted, hidden = [], {"colab": "of Colab", "kaggle": "of Kaggle"}
    stubs = {
        "drive": SimpleNamespace(mount=mounted.append),
        "userdata": SimpleNamespace(get=lambda name: hidden["colab"]),
        "files": SimpleNamespace(),
    }
    client = SimpleNamespace(get_secret=lambda name: hidden["kaggle"])
    modules = {"google": {}, "google.colab": stubs if place != "elsewhere" else None, "kaggle_secrets": None}
    if place == "kaggle":
        modules["kaggle_secrets"] = {"UserSecretsClient": lambda: client}
    for name, content in modules.items():
        monkeypatch.setitem(sys.modules, name, content if content is None else SimpleNamespace(**content))
    monkeypatch.setattr(os.path, "isdir", lambda path: place == "kaggle" and path == "/kaggle/working")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    [source] = [cell.source for cell in read("pii_kaggle").cells if cell.id == "start"]
    names = {"RECIPE": "pii", "STORAGE": "", "WORK": ""}
    exec(source, names)
    places = {"colab": "/content/drive/MyDrive", "kaggle": "/kaggle/working", "elsewhere": str(Path.cwd())}
    assert str(names["STORAGE"]) == f"{places[place]}/snaketune-pii"
    assert names["ENVIRONMENT"].get("HF_TOKEN") == hidden.get(place)
    assert mounted == (["/content/drive"] if place == "colab" else [])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="apt-get install -y rsync"):
        exec(source, names)


@pytest.fixture
def kept(tmp_path):
    """Execute the cell of the run on a machine where the workflow writes these files (None: deletes)."""

    def execute(machine: str, recipe: str = "football", status: int = 0, earlier: str = "", **written: str | None):
        work = tmp_path / machine
        work.mkdir(exist_ok=True)

        def run(*command, folder):
            for name, text in written.items():
                path = work / "results" / recipe / name.replace("__", "/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8") if text else path.unlink()
            if status:
                raise RuntimeError("snakemake ended with status 1")

        names = {"WORK": work, "RESULTS": work / "results" / recipe, "STORAGE": tmp_path / f"storage-{recipe}"}
        names |= {"EARLIER": earlier, "KEEP_EVERY": 30, "TARGETS": [], "CONFIG": [], "run": run}
        names |= {"shutil": shutil, "subprocess": subprocess, "threading": threading, "Path": Path}
        [source] = [cell.source for cell in read("football_colab").cells if cell.id == "run"]
        exec(source, names)
        return {str(path.relative_to(work / "results")) for path in (work / "results").rglob("*") if path.is_file()}

    return execute


def test_a_new_machine_gets_what_was_kept_and_no_machine_deletes_what_it_has_not_restored(kept, tmp_path):
    with pytest.raises(RuntimeError, match="status 1"):
        kept("lost", status=1, adapter="a", models__m="large", curve="c", **{"x.partial": "half"})
    for left in ("storage-football/.incoming/x", "storage-football/results/football/old/.~tmp~/x"):
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).write_text("half", encoding="utf-8")
    kept("new", "stories", story="s")
    os.utime(tmp_path / "storage-football/results/football/adapter", ns=(10**18, 10**18))
    assert kept("new") == {"stories/story", "football/adapter", "football/curve"}
    assert (tmp_path / "new/results/football/adapter").stat().st_mtime_ns == 10**18
    kept("new", curve=None, verdict="v")
    storage = tmp_path / "storage-football"
    assert sorted(str(path.relative_to(storage)) for path in storage.rglob("*") if path.is_file()) == [
        "results/football/adapter",
        "results/football/verdict",
    ]
    storage.rename(tmp_path / "input")
    assert kept("version", earlier=str(tmp_path / "input")) == {"football/adapter", "football/verdict"}


def test_a_storage_that_cannot_be_read_or_written_stops_the_cell_and_is_left_as_it_is(kept, tmp_path, monkeypatch):
    kept("lost", adapter="a")
    program(tmp_path / "bin/rsync", "echo Transport endpoint is not connected; exit 23")
    with pytest.raises(RuntimeError, match="could not be restored"):
        kept("new", adapter="b")
    with pytest.raises(RuntimeError, match="could not be kept"):
        kept("lost", adapter="b")
    (tmp_path / "bin/rsync").unlink()
    assert kept("new") == {"football/adapter"}
    assert (tmp_path / "new/results/football/adapter").read_text(encoding="utf-8") == "a"


def test_the_settings_of_football_fit_a_t4():
    names = {}
    [settings] = [cell.source for cell in read("football_colab").cells if cell.id == "settings"]
    exec(settings, names)
    files = [ROOT / f"config/{name}/football.yaml" for name in ("recipes", "gpu/t4")]
    config: dict = {}
    for layer in (*(yaml.safe_load(file.read_text(encoding="utf-8")) for file in files), names["CHANGES"]):
        config = merged(config, layer)
    run = load_config(config).runs["football"]
    assert (run.method, run.training.micro_batch, run.training.accumulation) == ("qlora", 1, 16)
    assert run.training.precision == "auto"  # fp16 on a T4, which has no bf16


def test_football_on_machines_that_are_lost_in_and_after_the_training_ends_with_the_same_adapter(repository, tmp_path):
    settings = {"REPOSITORY": str(repository), "CHANGES": FOOTBALL, "KEEP_EVERY": 0.5}
    run = Path("results/football/small/runs/football")
    Machine("football_colab", tmp_path, **settings).run_until(f"{run}/checkpoints/*/checkpoint-2/manifest.json")
    # The training has ended for Snakemake too when its outputs have metadata; a loss before that lets it end once more.
    trained = [f"{run}/{name}" for name in ("adapter/manifest.json", "curve.jsonl", "training.json")]
    metadata = [f".snakemake/metadata/{urlsafe_b64encode(name.encode()).decode()}" for name in trained]
    Machine("football_colab", tmp_path, **settings).run_until(*trained, *metadata)
    machine = Machine("football_colab", tmp_path, **settings)
    machine.run()
    assert f"Results were restored from {machine.storage}" in machine.printed("run")
    assert [attempt["ended"] for attempt in read_json(machine.work / run / "training.json")["attempts"]] == [
        "killed",
        "done",
    ]
    assert re.search(r"football +\d+\.\d +\d+\.\d  16 GB \(T4\)", machine.printed("gpu"))
    assert re.search(r'REVISION = "\w{40}"', machine.printed("checkout"))
    for cell in ("gpu", "report", "bundle"):
        assert "not of the recipe's model" in machine.printed(cell)
    assert machine.printed("report").count("<iframe") == 2
    assert "&lt;b&gt;base&lt;/b&gt; smollm2&lt;" in machine.printed("report")
    assert (tmp_path / "football-football-bundle.zip").stat().st_size > 5e7
    kept = {path.name for path in (machine.storage / run).iterdir()}
    assert {"adapter", "bundle", "report.html"} <= kept
    assert not kept & {"merged", "gguf"}

    adapter = machine.work / run / "adapter"
    ended = sha256_of(adapter / "adapter_model.safetensors")
    shutil.rmtree(adapter)
    config = ("config/recipes/football.yaml", "config/small.yaml", "notebook.json")
    done = run_snakemake(machine.work, f"{run}/adapter/manifest.json", "--configfile", *config)
    assert done.returncode == 0, done.stdout
    assert [attempt["ended"] for attempt in read_json(machine.work / run / "training.json")["attempts"]] == ["done"]
    assert sha256_of(adapter / "adapter_model.safetensors") == ended


def test_pii_shows_f1_confusion_and_errors(repository, tmp_path):
    machine = Machine("pii_kaggle", tmp_path, REPOSITORY=str(repository), CHANGES=PII)
    machine.run()
    assert re.search(r"\| entity_f1 \| 0\.\d+ \|", machine.printed("f1"))
    assert "<svg" in machine.printed("f1")
    assert re.search(r"^(false_positive|missed|wrong_\w+): expected", machine.printed("f1"), re.MULTILINE)
    assert "<iframe" in machine.printed("report")
    assert (machine.storage / "results/pii/small/runs/pii/bundle/SHA256SUMS").is_file()
