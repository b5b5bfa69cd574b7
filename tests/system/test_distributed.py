"""One run in several processes: it learns what one process learns, is stopped and resumed as one, and ends as one."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import BatchSamplerShard
from safetensors.torch import load_file
from torch.utils.data import BatchSampler
from transformers import AutoConfig, AutoModelForCausalLM

from scripts.common.errors import UserError
from scripts.common.files import check_manifest, read_json, read_jsonl, write_manifest
from scripts.config.runs import Run
from scripts.train.arguments import batch_shape
from scripts.train.batches import EpochSampler
from scripts.train.checkpoints import latest_checkpoint
from scripts.train.launch import note_failure, run_here, why_failed
from scripts.train.processes import process_group
from scripts.train.tokenize_conversations import tokenize_dataset
from tests.support.tiny_model import copy_model
from tests.support.training import make_dataset, run_settings

ROOT = Path(__file__).parents[2]
# Rows of which the last step of an epoch has one only: one process has it, the other has none.
ROWS, VALIDATION = 17, 5


@pytest.fixture(scope="module")
def tokens(tiny_base, tmp_path_factory) -> Path:
    """The token folder of a small dataset whose rows no number of processes divides."""
    folder = tmp_path_factory.mktemp("tokens")
    dataset = make_dataset(folder / "dataset", train=ROWS, validation=VALIDATION)
    tokenize_dataset(dataset, tiny_base, folder / "tokens", run_settings()["tokens"])
    return folder / "tokens"


@pytest.fixture(scope="module")
def tied_base(tiny_base, tmp_path_factory) -> Path:
    """The manifest of a small model of two blocks whose output layer is its embedding."""
    folder = copy_model(tiny_base.parent, tmp_path_factory.mktemp("tied") / "tied")
    config = AutoConfig.from_pretrained(folder)
    config.tie_word_embeddings, config.num_hidden_layers = True, 2
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    return write_manifest(folder, **{key: value for key, value in read_json(tiny_base).items() if key != "files"})


@pytest.fixture(scope="module")
def bases(tiny_base, tied_base) -> dict[str, Path]:
    """The base of each method."""
    return {"lora": tiny_base, "full": tied_base}


class Training:
    """A training by its command line, in a folder of its own: one thread for each process."""

    def __init__(self, tokens: Path, base: Path, folder: Path, method: str = "lora", **sections):
        self.folder, self.output = folder, folder / "adapter"
        folder.mkdir(parents=True, exist_ok=True)
        settings = run_settings(method, **sections)
        files = {"base": base, "checkpoints": folder / "checkpoints", "output": self.output}
        files |= {"curve": folder / "curve.jsonl", "facts": folder / "training.json", "log": folder / "log"}
        named = {**files, "settings": json.dumps(settings), "threads": settings["training"]["processes"]}
        words = [str(word) for key, value in named.items() for word in (f"--{key}", value)]
        self.command = [sys.executable, str(ROOT / "scripts/train/train_model.py"), str(tokens), *words]

    def start(self) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True, env=environment)

    def run(self) -> "Training":
        process = self.start()
        _, self.said = process.communicate()
        assert process.returncode == 0, self.said + (self.folder / "log").read_text()
        return self

    @property
    def curve(self) -> list[dict]:
        return list(read_jsonl(self.folder / "curve.jsonl"))

    @property
    def facts(self) -> dict:
        return read_json(self.folder / "training.json")

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(next(self.output.glob("*.safetensors")))

    def wait_for_step(self, step: int) -> None:
        while not list((self.folder / "checkpoints").glob(f"*/checkpoint-{step}/manifest.json")):
            time.sleep(0.02)


@pytest.fixture(scope="module")
def trained(tokens, bases, tmp_path_factory):
    """Return the training of settings in this many processes; the same one is done once."""
    done = {}

    def training(processes: int, method: str = "lora", sharding: str = "none") -> Training:
        key = (processes, method, sharding)
        if key not in done:
            options = {"processes": processes, "sharding": sharding}
            options |= {"learning_rate": 1e-4} if method == "full" else {}
            folder = tmp_path_factory.mktemp("trained")
            done[key] = Training(tokens, bases[method], folder, method, training=options).run()
        return done[key]

    return training


def losses(curve: list[dict]) -> dict[int, float]:
    """Return the training loss of each step."""
    return {row["step"]: row["loss"] for row in curve if "loss" in row}


def assert_the_same(one: Training, other: Training) -> None:
    """Assert that two trainings learned the same; what additions in another order change is far below 1e-5."""
    for a, b in zip(one.curve, other.curve, strict=True):
        assert a["step"] == b["step"]
        key = "loss" if "loss" in a else "eval_loss"
        assert a[key] == pytest.approx(b[key], rel=1e-5)
        for key in {"grad_norm", "learning_rate"} & a.keys():
            assert a[key] == pytest.approx(b[key], rel=1e-4)
    assert_the_same_weights(one, other)


def assert_the_same_weights(one: Training, other: Training) -> None:
    """Assert that two trainings left the same but for rounding."""
    assert one.weights.keys() == other.weights.keys()
    for name, weight in one.weights.items():
        tolerance = 2**-7 if weight.dtype == torch.bfloat16 else 1e-4
        assert other.weights[name].dtype == weight.dtype
        torch.testing.assert_close(other.weights[name], weight, rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "sharding", "steps"), [("lora", "none", None), ("lora", "none", 1), ("full", "fsdp", 1)]
)
def test_all_processes_agree_that_a_training_diverged(tokens, bases, tmp_path, method, sharding, steps):
    """The learning rate of the first step is 0, so that its checkpoint, if there is one, is untrained as well."""
    rates = {"learning_rate": 1e30, "scheduler": "constant_with_warmup", "warmup_ratio": 0.1, "keep_best": False}
    options = {"processes": 2, "sharding": sharding, "checkpoint_steps": steps, **rates}
    done = Training(tokens, bases[method], tmp_path, method, training=options).run()
    found = done.facts["diverged"]
    assert "no longer finite" in found["reason"]
    assert (found["kept_step"] > 0) == (steps is not None)
    assert 0 < len(done.curve) <= found["step"] < 5
    assert all(weight.isfinite().all() for weight in done.weights.values())
    assert all(weight.eq(0).all() for name, weight in done.weights.items() if ".lora_B." in name)


def test_two_processes_learn_what_one_process_learns(trained):
    """On shares of the weights; on copies of them, see the training that one process ends."""
    one, two = trained(1), trained(2, sharding="fsdp")
    assert_the_same(one, two)
    shapes = [[t.facts[key] for key in ("processes", "micro_batch", "accumulation")] for t in (one, two)]
    assert shapes == [[1, 2, 2], [2, 2, 1]]
    assert two.facts["sharding"] == "fsdp"


def test_all_processes_tokens_are_counted_where_the_rows_divide_evenly(tiny_base, tmp_path):
    dataset = make_dataset(tmp_path / "dataset", train=16, validation=4)
    tokenize_dataset(dataset, tiny_base, tmp_path / "tokens", run_settings()["tokens"])
    counted = []
    for processes in (1, 2):
        options = {"processes": processes, "epochs": 1}
        done = Training(tmp_path / "tokens", tiny_base, tmp_path / str(processes), training=options).run()
        counted.append([row["tokens_per_second"] * row["seconds"] for row in done.curve if "loss" in row])
    assert counted[1] == pytest.approx(counted[0], rel=0.05)  # both are rounded; a process that is left out is half


def test_all_weights_are_trained_on_shares_as_on_the_whole(trained):
    one, two = trained(1, "full"), trained(2, "full", "fsdp")
    assert_the_same(one, two)
    for name in ("config.json", "generation_config.json"):
        assert (one.output / name).read_text() == (two.output / name).read_text()


def test_what_two_processes_leave_has_the_form_of_what_one_leaves(trained):
    one, two = trained(1), trained(2, sharding="fsdp")
    assert check_manifest(two.output / "manifest.json", hashes=True)
    assert sorted(path.name for path in one.output.iterdir()) == sorted(path.name for path in two.output.iterdir())
    assert (one.output / "adapter_config.json").read_text() == (two.output / "adapter_config.json").read_text()
    assert one.curve[0].keys() == two.curve[0].keys()
    assert one.facts.keys() == two.facts.keys()
    assert sorted(path.name for path in two.folder.iterdir()) == sorted(path.name for path in one.folder.iterdir())


def test_stopped_by_sigterm_and_resumed_two_processes_end_with_the_same_bytes(tokens, bases, tmp_path, trained):
    whole = trained(2, "full", "fsdp")
    options = {"processes": 2, "sharding": "fsdp", "checkpoint_steps": 1, "keep_checkpoints": 20}
    options["learning_rate"] = 1e-4
    training = Training(tokens, bases["full"], tmp_path, "full", training=options)
    process = training.start()
    training.wait_for_step(7)  # in the second epoch: its order must be the second one's after the resume
    process.terminate()
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.count("stopped by SIGTERM after step") == 1
    (folder,) = (path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert latest_checkpoint(folder)
    assert_no_process_is_left(tmp_path)
    training.run()
    name = next(whole.output.glob("*.safetensors")).name
    assert (training.output / name).read_bytes() == (whole.output / name).read_bytes()
    assert losses(training.curve) == losses(whole.curve)
    assert [row["step"] for row in training.curve] == [row["step"] for row in whole.curve]


def test_what_two_processes_began_one_process_ends(tokens, tiny_base, tmp_path, trained):
    options = {"checkpoint_steps": 1, "keep_checkpoints": 20}
    training = Training(tokens, tiny_base, tmp_path, training={**options, "processes": 2})
    process = training.start()
    training.wait_for_step(2)
    process.terminate()
    process.communicate()
    alone = Training(tokens, tiny_base, tmp_path, training=options).run()
    assert "continues from step" in alone.said
    assert losses(alone.curve) == pytest.approx(losses(trained(1).curve), rel=1e-5)
    assert_the_same_weights(trained(1), alone)


@pytest.mark.parametrize("victim", ["a process", "the launcher"])
def test_a_kill_of_one_is_the_end_of_all(tokens, tiny_base, tmp_path, victim):
    options = {"processes": 2, "epochs": 500, "checkpoint_steps": 1}
    training = Training(tokens, tiny_base, tmp_path, training=options)
    process = training.start()
    training.wait_for_step(1)
    os.kill(processes_of(tmp_path, "--exchange")[1] if victim == "a process" else process.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=300)  # those that outlive the launcher would hold its stderr
    assert_no_process_is_left(tmp_path)
    if victim == "a process":
        assert process.returncode == 2
        expected = "train_model.py: RuntimeError: process 1 was ended by SIGKILL"
        assert [line for line in said.splitlines() if "Error" in line] == [expected]


def test_a_fault_that_all_processes_find_is_said_once(tokens, tiny_base, tmp_path):
    options = {"training": {"processes": 2}, "lora": {"target_modules": ["no_such_proj"]}}
    process = Training(tokens, tiny_base, tmp_path, **options).start()
    _, said = process.communicate()
    assert process.returncode == 1
    assert said.count("lora.target_modules: ") == 1


def processes_of(folder: Path, word: str) -> list[int]:
    """Return the ids of the processes with this folder and this word in their command lines, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            variables = (path.parent / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        if word in words and any(str(folder) in each for each in words):
            number = next((v.removeprefix("RANK=") for v in variables if v.startswith("RANK=")), "-1")
            found[int(number)] = int(path.parent.name)
    return [found[number] for number in sorted(found)]


def assert_no_process_is_left(folder: Path) -> None:
    """Assert that the processes of a training are gone, or within a moment."""
    deadline = time.monotonic() + 60
    while processes_of(folder, "--checkpoints") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(folder, "--checkpoints") == []


def shape(micro_batch: int, accumulation: int, attempt: int, processes: int) -> tuple[int, int]:
    """Return the micro-batch and accumulation of each process."""
    training = {"micro_batch": micro_batch, "accumulation": accumulation, "processes": processes, "nodes": 1}
    return batch_shape(training, attempt)


@pytest.mark.parametrize("processes", [2, 3, 4, 6])
@pytest.mark.parametrize("rows", [24, 23, 13, 1])
def test_each_step_has_the_rows_that_one_process_would_take(rows, processes):
    """accelerate deals the micro-batches; row number `rows` is the one without labels."""
    micro_batch, accumulation = shape(3, 4, 1, processes)
    order = EpochSampler([1] * rows, seed=7, multiple=micro_batch * processes)
    order.set_epoch(2)
    batches = BatchSampler(order, micro_batch, drop_last=False)
    dealt = [list(BatchSamplerShard(batches, processes, number)) for number in range(processes)]
    assert {len(own) for own in dealt} == {math.ceil(rows / (micro_batch * processes))}
    steps = defaultdict(list)
    for own in dealt:
        for place, batch in enumerate(own):
            steps[place // accumulation] += [row for row in batch if row != rows]
    alone = EpochSampler([1] * rows, seed=7)
    alone.set_epoch(2)
    taken = list(alone)
    assert [sorted(steps[step]) for step in sorted(steps)] == [
        sorted(taken[start : start + 12]) for start in range(0, rows, 12)
    ]


def test_processes_share_micro_batches_and_then_their_rows():
    assert shape(4, 4, 1, processes=2) == (4, 2)
    assert shape(4, 4, 1, processes=8) == (2, 1)
    assert shape(6, 4, 1, processes=3) == (2, 4)
    assert shape(4, 4, 2, processes=2) == (2, 4)


def test_of_many_failures_the_one_is_told_that_the_others_follow_from(tmp_path):
    note_failure(tmp_path, 0, "fault", "process 0: connection closed by peer")
    note_failure(tmp_path, 1, "memory", "process 1: out of memory")
    assert isinstance(why_failed(tmp_path, 1), MemoryError)
    note_failure(tmp_path, 2, "killed", "process 2 was ended by SIGKILL")
    assert str(why_failed(tmp_path, 1)) == "process 2 was ended by SIGKILL"


@pytest.mark.parametrize(("killed_for_memory", "kind"), [(0, RuntimeError), (1, MemoryError)])
def test_a_process_that_the_kernel_killed_for_memory_is_told_from_one_that_somebody_killed(
    tmp_path, monkeypatch, killed_for_memory, kind
):
    counts = iter((7, 7 + killed_for_memory))
    monkeypatch.setattr("scripts.train.launch.oom_kills", lambda: {"where": "here", "count": next(counts)})
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    status = run_here([sys.executable, "-c", program], 1, tmp_path)
    error = why_failed(tmp_path, status)
    assert (type(error), str(error)) == (kind, "process 0 was ended by SIGKILL")


def test_sigterm_before_the_processes_can_take_it_is_one_line(tmp_path):
    pid = os.getpid()
    program = f"import os, signal, time; os.kill({pid}, signal.SIGTERM); time.sleep(600)"
    status = run_here([sys.executable, "-c", program], 2, tmp_path)
    error = why_failed(tmp_path, status)
    assert isinstance(error, UserError)
    assert "stopped by SIGTERM" in str(error)


def test_a_process_that_waits_for_one_that_failed_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.train.launch.GRACE", 0.5)
    program = "import os, sys, time; sys.exit(3) if os.environ['RANK'] == '0' else time.sleep(600)"
    started = time.monotonic()
    assert run_here([sys.executable, "-c", program], 2, tmp_path) == 3
    assert time.monotonic() - started < 500


def test_fewer_gpus_than_processes_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="4 processes need a GPU each, but there are 2"), process_group():
        pass


def test_torchrun_would_leave_processes_behind_and_listen_on_every_interface(tmp_path):
    """Why scripts/train/launch.py starts the processes. When this fails, torchrun may take its place."""
    (tmp_path / "program.py").write_text(
        "import os, sys, time\n"
        "with open(sys.argv[1] + '.part', 'w') as file:\n"
        "    file.write(str(os.getpid()))\n"
        "os.replace(sys.argv[1] + '.part', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    torchrun = subprocess.Popen([*command, tmp_path / "program.py", tmp_path / "pid"], stderr=subprocess.DEVNULL)
    while not (tmp_path / "pid").exists():
        assert torchrun.poll() is None
        time.sleep(0.1)
    pid, listens = int((tmp_path / "pid").read_text()), listens_everywhere(torchrun.pid)
    torchrun.kill()
    torchrun.wait()
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)  # ProcessLookupError: it ended with torchrun
    assert listens


def listens_everywhere(pid: int) -> bool:
    """Return whether a process has a TCP socket that listens on all network interfaces."""
    own = {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    found = [line.split() for line in lines if " 0A " in line]  # those that listen
    return any(not row[1].partition(":")[0].strip("0") and f"socket:[{row[9]}]" in own for row in found)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"processes": 3}}, "3 processes can't share the 16 rows of a step"),
        ({"training": {"processes": 2, "nodes": 3}}, "6 processes can't share the 16 rows"),
        ({"training": {"sharding": "fsdp"}}, "'fsdp' needs several processes"),
        (
            {"training": {"processes": 2, "sharding": "fsdp", "optimizer": "adafactor"}},
            "'adafactor' can't train sharded weights",
        ),
        ({"training": {"processes": 2, "sharding": "fsdp", "precision": "fp16"}}, "'fp16' can't be combined"),
        ({"method": "qlora", "training": {"processes": 2, "sharding": "fsdp"}}, "a 4-bit base can't be sharded"),
        ({"task": "vision", "training": {"processes": 2, "sharding": "fsdp"}}, "'fsdp' is for text"),
        (
            {"task": "vision", "vision": {"train_projector": True}, "training": {"processes": 2}},
            "can't be in several processes",
        ),
        ({"lora": {"dora": True}, "training": {"processes": 2, "sharding": "fsdp"}}, "needs whole weights"),
        (
            {"task": "token_classification", "training": {"processes": 2}},
            "a token classifier is trained in one process",
        ),
        ({"method": "prompt", "training": {"nodes": 2}}, "the method 'prompt' runs in one process"),
    ],
)
def test_combinations_that_can_not_be_are_refused_before_anything_runs(sections, message):
    run = Run.model_validate({"dataset": "d", "model": "m", **sections})
    said = [text for section in (run, run.training) for _, text in section.conflicts()]
    assert [text for text in said if message in text], said
