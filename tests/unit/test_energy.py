"""Energy is read from the machine's meters, never estimated; without a meter there is a reason instead of a figure."""

import subprocess
from pathlib import Path

import pytest

from scripts.train.energy import EnergyMeter, NoMeterError, gpu_counters, rapl_counters
from scripts.train.training_run import run_metadata
from tests.support.needs import need


@pytest.fixture
def powercap(tmp_path):
    """A power capping folder as the kernel has it, with two packages and a part of one."""
    for zone, name, joules in (("0", "package-0", 10), ("0:0", "core", 7), ("1", "package-1", 20)):
        folder = tmp_path / f"intel-rapl:{zone}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{joules * 1_000_000}\n")
        (folder / "max_energy_range_uj").write_text("100000000\n")
    return tmp_path


def test_the_packages_are_counted_without_their_parts_and_a_counter_that_began_again_counts_on(powercap):
    assert [counter.joules for counter in rapl_counters(powercap)] == [10, 20]
    meter = EnergyMeter(powercap, uuids=[])
    (powercap / "intel-rapl:0/energy_uj").write_text("4000000\n")
    (powercap / "intel-rapl:1/energy_uj").write_text("21500000\n")
    assert [meter.since(), meter.since()] == [94 + 1.5, 0]
    assert (meter.meters, meter.missing) == (["CPU packages (RAPL)"], ["no GPU is used"])


def test_the_gpus_that_compute_are_counted_and_one_without_a_counter_gives_the_reason(tmp_path):
    need("gcc", "gcc of the distribution")
    source, library = Path(__file__).parents[1] / "support/nvml.c", str(tmp_path / "nvml.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    meter = EnergyMeter(tmp_path, uuids=["GPU-one"], library=library)
    assert meter.since() == 2.5
    assert (meter.meters, meter.missing) == (["GPU (NVML)"], ["the CPU has no counter"])
    for uuid, why in (("GPU-two", "has no counter"), ("GPU-three", "does not know")):
        with pytest.raises(NoMeterError, match=why):
            gpu_counters(["GPU-one", uuid], library)


def test_without_a_meter_there_is_no_figure_but_a_reason(tmp_path):
    meter = EnergyMeter(tmp_path / "none", uuids=["GPU-one"], library="libof-nobody.so.1")
    assert meter.since() is None
    assert meter.missing == ["NVML is not installed", "the CPU has no counter"]


def test_the_facts_of_a_training_say_when_where_and_how_much(powercap):
    meter = EnergyMeter(powercap, uuids=[])
    (powercap / "intel-rapl:0/energy_uj").write_text("12000000\n")
    facts = run_metadata(61.2, meter)
    assert facts["energy"]["joules"] == 2
    assert facts["started"] < facts["ended"]
    assert facts["environment"]["kind"] in ("venv", "conda", "container", "system")
    assert "torch" in facts["environment"]["packages"]
