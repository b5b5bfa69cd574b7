"""Measure the energy of a training with the machine's counters of GPUs and CPU packages.

Nothing is estimated: without a readable counter there is no value, and the facts say why.
"""

import ctypes
from pathlib import Path
from typing import NamedTuple

POWERCAP = Path("/sys/class/powercap")
NVML_LIBRARY = "libnvidia-ml.so.1"


class Counter(NamedTuple):
    """A cumulative energy counter in joules, and the value at which it wraps to 0 (None: never)."""

    joules: float
    wraps_at: float | None = None


class NoMeterError(Exception):
    """A meter can't be read; the text says why."""


def rapl_counters(folder: Path = POWERCAP) -> list[Counter]:
    """Return the counter of each CPU package; it includes all processes of the machine.

    Source: Documentation/power/powercap of the Linux kernel. Raises NoMeterError if there is none, or only root reads
    it.
    """
    try:
        names = {zone: (zone / "name").read_text(encoding="ascii") for zone in sorted(folder.glob("intel-rapl:*"))}
        packages = [zone for zone, name in names.items() if name.startswith("package")]
        counters = [
            Counter(*(int((zone / file).read_text()) / 1e6 for file in ("energy_uj", "max_energy_range_uj")))
            for zone in packages
        ]
    except OSError as error:
        raise NoMeterError(f"the CPU's counter can't be read ({error.strerror})") from None
    if not counters:
        raise NoMeterError("the CPU has no counter")
    return counters


def gpu_counters(uuids: list[str], library: str = NVML_LIBRARY) -> list[Counter]:
    """Return the counter of each of these GPUs; it includes all processes on the GPU.

    Source: NVML's nvmlDeviceGetTotalEnergyConsumption. Raises NoMeterError without a GPU, or for one without a counter.
    """
    if not uuids:
        raise NoMeterError("no GPU is used")
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        raise NoMeterError("NVML is not installed") from None
    if nvml.nvmlInit_v2():
        raise NoMeterError("NVML does not start")
    counters = []
    for uuid in uuids:
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetHandleByUUID(uuid.encode("ascii"), ctypes.byref(handle)):
            raise NoMeterError("NVML does not know the GPU")
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise NoMeterError("the GPU has no counter")
        counters.append(Counter(millijoules.value / 1e3))
    return counters


class EnergyMeter:
    """Joules between readings, over all meters that can be read.

    `meters` has their names, `missing` the reasons why others are missing. On several nodes only the first is measured.
    """

    def __init__(self, powercap: Path = POWERCAP, uuids: list[str] | None = None, library: str = NVML_LIBRARY):
        if uuids is None:
            import torch

            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            uuids = [f"GPU-{torch.cuda.get_device_properties(place).uuid}" for place in range(count)]
        readers = {
            "GPU (NVML)": lambda: gpu_counters(uuids, library),
            "CPU packages (RAPL)": lambda: rapl_counters(powercap),
        }
        self.readers, self.meters, self.missing, self.last = readers, [], [], {}
        for name, read in readers.items():
            try:
                self.last[name] = read()
                self.meters.append(name)
            except NoMeterError as error:
                self.missing.append(str(error))

    def since(self) -> float | None:
        """Return the joules since the last call, or since construction; None without a meter."""
        total = 0.0
        for name in self.meters:
            try:
                now = self.readers[name]()
            except NoMeterError:
                return None
            for before, after in zip(self.last[name], now, strict=True):
                difference = after.joules - before.joules
                total += difference if difference >= 0 else difference + (after.wraps_at or 0.0)
            self.last[name] = now
        return round(total, 3) if self.meters else None
