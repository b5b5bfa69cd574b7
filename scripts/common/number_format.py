"""Choose the number format of a step, bf16, fp16 or fp32, by what the device computes natively.

A CPU without units for a format emulates it: without bf16 units, matrix products in bf16 take 5 to 100 times as long as
in fp32. The choice depends only on the CPU's vendor and flags, so it is always the same on one machine. torch's own
check (`torch.ops.mkldnn._is_mkldnn_bf16_supported()`) is true for every CPU with AVX-512, even without bf16 units.
"""

import os
import re
import time
from functools import cache
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.terminal import warn

FORMATS = ("bf16", "fp16", "fp32")
CPUINFO = Path("/proc/cpuinfo")
# Values of ONEDNN_MAX_CPU_ISA with which oneDNN, torch's library for matrix products, emulates a format. Source:
# oneDNN's documentation, "CPU Dispatcher Control".
EMULATED_UNDER = {
    "bf16": re.compile(r"SSE41|AVX|AVX2(_VNNI(_2)?)?|AVX512_CORE(_VNNI)?", re.IGNORECASE),
    "fp16": re.compile(r"SSE41|AVX|AVX2(_VNNI(_2)?)?|AVX512_CORE(_VNNI|_BF16)?", re.IGNORECASE),
}


def is_native(precision: str) -> bool:
    """Return whether this process's device computes in a format at least as fast as in fp32."""
    import torch

    if precision == "fp32":
        return True
    if torch.cuda.is_available():
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return is_native_on_cpu(precision)


def is_native_on_cpu(precision: str) -> bool:
    """Return whether this CPU has fast units for bf16 or fp16 that ONEDNN_MAX_CPU_ISA allows oneDNN to use.

    Intel's AVX512-BF16 without AMX does not count. It has half the throughput of AMD's, and a training step takes twice
    as long as in fp32 (tests/benchmarks/results/number_format.md).
    """
    if EMULATED_UNDER[precision].fullmatch(os.environ.get("ONEDNN_MAX_CPU_ISA", "")):
        return False
    words = set(CPUINFO.read_text(encoding="utf-8", errors="replace").split()) if CPUINFO.is_file() else set()
    if precision == "fp16":
        return bool(words & {"avx512_fp16", "amx_fp16"})
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words


def device_precision(wanted: str) -> str:
    """Return the wanted format; for `auto`, the best format that this device computes natively.

    If the device emulates a wanted format, a warning gives measured times.
    """
    import torch

    if wanted != "auto":
        warn_if_slow(wanted)
        return wanted
    if is_native("bf16"):
        return "bf16"
    return "fp16" if torch.cuda.is_available() else "fp32"


def precision_of_run(wanted: str, begun: list[str]) -> str:
    """Return the format of a training: for `auto`, that of its checkpoints; otherwise as `device_precision`.

    `begun` lists the formats of the checkpoints. Raises UserError if the training started in a format that this device
    emulates.
    """
    chosen = device_precision(wanted)
    if wanted != "auto" or not begun or chosen in begun:
        return chosen
    if not is_native(begun[0]):
        remedy = f"use a machine that does, set training.precision to {begun[0]} (slow here), or delete its checkpoints"
        raise UserError(
            f"the training started in {begun[0]}, which this machine does not compute natively", remedy=remedy
        )
    return begun[0]


def precision_of_answers(wanted: str, trained: str) -> str:
    """Return the format of the base under a trained head: for `auto`, the one that the head was trained in.

    If the device does not compute that format natively, the result is that of `device_precision`.
    """
    return trained if wanted == "auto" and is_native(trained) else device_precision(wanted)


def torch_dtype(precision: str):
    """Return the torch dtype of bf16, fp16 or fp32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


@cache
def warn_if_slow(precision: str) -> None:
    """Warn once about a format that is slow on this device, with measured times of a matrix product."""
    if is_native(precision):
        return
    own, single = product_milliseconds(precision), product_milliseconds("fp32")
    warn(
        f"{precision} is slow on this machine: a matrix product takes {own:.1f} ms, in fp32 {single:.1f} ms "
        f"({own / single:.0f} times as long); training.precision 'auto' takes {device_precision('auto')}"
    )


def product_milliseconds(precision: str) -> float:
    """Return the time of one matrix product in milliseconds, the best of three."""
    import torch

    on_gpu = torch.cuda.is_available()
    size = 2048 if on_gpu else 256
    values = torch.ones(size, size, dtype=torch_dtype(precision), device="cuda" if on_gpu else "cpu")
    times = []
    for _ in range(4):  # the first is a warm-up
        started = time.perf_counter()
        values @ values.T
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1000 * min(times[1:])
