"""Locks, conda files and requirements belong together; the drift is found without a network."""

import ast
import importlib.metadata
import re
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from envs import lock as locks
from envs.install import PAIR, merged_pins, without_pair
from scripts.config.load import ConfigError, load_config
from scripts.workflow.code_digest import files_of_script
from tests.support.rules import rules

FOLDER = locks.FOLDER
ROOT = FOLDER.parent
# Imported under another name than that of the package.
PACKAGE_OF = {"google": "protobuf", "llama_cpp": "llama-cpp-python", "yaml": "pyyaml", "PIL": "pillow"}


def direct_requirements(environment):
    """Return the direct requirements of an environment, name to version; each must have an exact version."""
    lines = (FOLDER / f"{environment}.in").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    exact = {canonicalize_name(each.name): [(one.operator, one.version) for one in each.specifier] for each in found}
    assert all(len(pins) == 1 and pins[0][0] == "==" for pins in exact.values())
    return {name: version for name, [(_, version)] in exact.items()}


def imported_packages(script):
    """Return the packages that a step and the modules of ours that it uses import, lazily or not."""
    packages = set()
    for path in files_of_script(script):
        for node in ast.walk(ast.parse(path.read_bytes())) if path.suffix == ".py" else ():
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            packages |= {name.split(".")[0] for name in names}
    ours = {"scripts", *sys.stdlib_module_names}
    return {canonicalize_name(PACKAGE_OF.get(name, name)) for name in packages - ours}


@pytest.mark.parametrize("name", [locks.CONSTRAINTS, *(f"{name}.lock" for name in locks.lock_names())])
def test_a_generated_file_is_made_of_the_present_requirements(name):
    path = FOLDER / name
    assert path.read_text(encoding="utf-8").startswith(locks.header(path)), f"envs/{name} is stale: make lock"


@pytest.mark.parametrize("name", [name for name in locks.lock_names() if name not in locks.NOT_RUN_BY_RULES])
def test_the_conda_file_is_the_one_that_the_lock_gives(name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text == locks.conda_yaml(name), f"envs/{name}.yaml is stale: make lock"
    *tools, pip = yaml.safe_load(text)["dependencies"]
    assert all(re.fullmatch(r"[a-z-]+=\d+(\.\d+)+", tool) for tool in tools)
    found, lock = {line.split("==")[0]: line for line in pip["pip"]}, locks.read_lock(name)
    assert found.keys() == lock.keys()
    assert all(found[package].startswith(locks.requirement_line(package, pin)) for package, pin in lock.items())
    if name.startswith("gguf"):
        assert set(locks.BUILT_WITH["llama-cpp-python"]) <= set(tools)
        assert "GGML_NATIVE=OFF" in found["llama-cpp-python"], "llama.cpp is built for other CPUs too"


@pytest.mark.parametrize("name", locks.lock_names())
def test_a_lock_has_hashes_for_everything_and_holds_each_direct_requirement(name):
    lock = locks.read_lock(name)
    for pin in lock.values():
        assert pin.hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in pin.hashes)
    for package, version in direct_requirements(name).items() if name in locks.environments() else ():
        assert lock[package].version == version


@pytest.mark.parametrize("environment", locks.torch_environments())
def test_a_cpu_variant_has_the_same_pins_with_cpu_builds_and_no_cuda_libraries(environment):
    text = (FOLDER / f"{environment}.cpu.lock").read_text(encoding="utf-8")
    assert text == locks.cpu_lock(environment), f"envs/{environment}.cpu.lock is stale: make lock"
    cuda, cpu = locks.read_lock(environment), locks.read_lock(f"{environment}.cpu")
    assert cpu["torch"].version == f"{cuda['torch'].version}+cpu"
    assert {name for name in cuda if name.startswith("nvidia-")}
    builds = locks.read_pins((FOLDER / locks.CPU_BUILDS).read_text(encoding="utf-8"))
    cuda_only = {name for name in cuda if name.startswith(locks.CUDA_PREFIXES)}
    left_out = cuda_only | ({"torch", "torchvision"} - builds.keys())
    assert cpu.keys() == cuda.keys() - left_out
    assert all(pin == cuda[name] for name, pin in cpu.items() if name not in builds)


def test_a_vision_run_is_refused_beside_the_cpu_build_as_long_as_that_has_no_torchvision():
    assert "torchvision" not in locks.read_pins((FOLDER / locks.CPU_BUILDS).read_text(encoding="utf-8"))
    config = yaml.safe_load((ROOT / "config/recipes/titles.yaml").read_text(encoding="utf-8"))
    load_config(config)
    config["environments"] = {"torch": "cpu"}
    with pytest.raises(ConfigError, match=r"^runs\.\w+\.task: 'vision' needs torchvision: .*'cuda'"):
        load_config(config)


def test_environments_differ_on_a_version_only_for_a_reason_that_is_written_down():
    versions: dict[str, set[str]] = {}
    for name in locks.lock_names():
        for package, pin in locks.read_lock(name).items():
            versions.setdefault(package, set()).add(pin.version)
    lines = (FOLDER / "differences.txt").read_text(encoding="utf-8").splitlines()
    reasons = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    assert {package for package, found in versions.items() if len(found) > 1} == reasons.keys()
    assert all(len(reason.split()) > 4 for reason in reasons.values())


def test_all_environments_agree_on_every_version():
    lines = (FOLDER / locks.CONSTRAINTS).read_text(encoding="utf-8").splitlines()
    locked = [merged_pins(), *map(locks.read_lock, locks.OPTIONAL)]
    pins = {f"{name}=={pin.version}" for lock in locked for name, pin in lock.items()}
    assert pins == {line for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.*")), ids=lambda path: path.name)
def test_no_file_names_a_registry_or_a_path_of_a_machine(path):
    assert not re.findall(r"\w+://\S+|--(?:extra-)?index-url\S*|--find-links\S*", path.read_text(encoding="utf-8"))


def test_this_environment_is_the_locked_one_and_a_cpu_build_of_torch_comes_without_cuda_libraries():
    pins = merged_pins()
    cpu, cuda = without_pair(pins, cpu_build=True), without_pair(pins, cpu_build=False)
    assert "torch" not in {*cpu, *cuda}
    assert {"nvidia-cudnn-cu13", "triton", "cuda-bindings"} <= cuda.keys() - cpu.keys()
    installed = {canonicalize_name(found.name): found.version for found in importlib.metadata.distributions()}
    wanted = {name: pin.version for name, pin in (cpu if installed["torch"].endswith("+cpu") else cuda).items()}
    for name in PAIR:
        assert installed[name].split("+")[0] == pins[name].version
    assert {name: installed.get(name) for name in wanted} == wanted


@pytest.mark.parametrize("rule", [name for name, text in rules().items() if "shell:" in text])
def test_a_rules_environment_holds_what_its_step_imports(rule):
    *_, environment = re.findall(r'conda:\s+conda_file\("(\w+)"\)', rules()[rule])
    images = re.findall(r'container:\s+image\("(\w+)"\)', rules()[rule])
    without_image = environment == "collect" or rule == "fetch_gguf_package"  # no image has Chromium or pip
    assert images[-1:] == ([] if without_image else [environment])
    script = re.findall(r'code\("([^"]+)"', rules()[rule])[-1]
    missing = imported_packages(ROOT / "scripts" / script) - direct_requirements(environment).keys()
    assert not missing, f"add {sorted(missing)} to envs/{environment}.in, then make lock"
