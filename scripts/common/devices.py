"""Which GPUs there are for this process, found without torch, and what tells one from another on this machine."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from scripts.common.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# What the machine has, in the words of CUDA_VISIBLE_DEVICES, instead of asking nvidia-smi; an empty one: no GPU.
OVERRIDE = "SNAKETUNE_DEVICES"
GPU_LINE = re.compile(r"GPU (?P<index>\d+): .*\(UUID: (?P<name>GPU-[^)]+)\)")
MIG_LINE = re.compile(r"\s+MIG .*\(UUID: (?P<name>MIG-[^)]+)\)")
SECONDS_FOR_NVIDIA_SMI = 60
OF_JOB = "SLURM_JOB_ID"


@dataclass(frozen=True)
class Device:
    """A GPU or a part of one: its name for CUDA_VISIBLE_DEVICES, and its key, which is the same for every process."""

    name: str
    key: str


def devices(environment: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, by its names; without it, all.

    Without it they are named by UUID: CUDA counts the fastest GPU first, nvidia-smi the first on the bus.
    """
    there = there_by_number(environment)
    if VISIBLE not in environment:
        return [Device(name, name) for names in there.values() for name in names]
    return [Device(name, key_of(name, there, environment)) for name in listed(environment[VISIBLE])]


def there_by_number(environment: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the machine's GPUs: number to UUID, or to the UUIDs of the parts (MIG) that it is cut into."""
    if OVERRIDE in environment:
        return {name: [name] for name in listed(environment[OVERRIDE])}
    return parsed(nvidia_smi(environment))


def nvidia_smi(environment: Mapping[str, str]) -> str:
    """Return what `nvidia-smi -L` lists; nothing where there is none or its driver does not answer."""
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "-L"], capture_output=True, text=True, check=False, timeout=SECONDS_FOR_NVIDIA_SMI
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            f"nvidia-smi does not answer for {SECONDS_FOR_NVIDIA_SMI} s",
            remedy=f"mend the driver, or set {VISIBLE}= to do without GPUs",
        ) from None
    return done.stdout if done.returncode == 0 else ""


def parsed(listing: str) -> dict[str, list[str]]:
    """Return number to UUIDs from the output of `nvidia-smi -L`; a GPU that is cut into parts can't be used whole."""
    found: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for line in listing.splitlines():
        if match := GPU_LINE.match(line):
            number = match["index"]
            found[number] = [match["name"]]
        elif (match := MIG_LINE.match(line)) and found:
            parts.setdefault(number, []).append(match["name"])
    return {**found, **parts}


def listed(text: str) -> list[str]:
    """Return the names in a list as CUDA reads it: nothing counts from a negative number or an empty name on."""
    names: dict[str, None] = {}
    for word in text.split(","):
        name = word.strip()
        if not name or name.startswith("-"):
            break
        names[name] = None
    return list(names)


def key_of(name: str, there: dict[str, list[str]], environment: Mapping[str, str]) -> str:
    """Return what tells a device from all others of the machine: its UUID where it is known, else its name.

    Under Slurm the device is the job's, and within a job it may be counted from 0 anew: the job is part of its key, and
    where there is no UUID the job step as well. Two jobs that Slurm lets share a GPU then don't wait for each other.
    """
    uuids = [uuid for names in there.values() for uuid in names]
    known = there.get(name) or [uuid for uuid in uuids if uuid.startswith(name)]
    key = known[0] if known else name
    job = environment.get(OF_JOB)
    if job is None:
        return key
    step = "" if known else f"{environment.get('SLURM_STEP_ID', '')}-{environment.get('SLURMD_NODENAME', '')}-"
    return f"slurm-{job}-{step}{key}"
