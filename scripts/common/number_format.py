"""The number format that a step computes in: bf16, fp16 or fp32, by what the device computes natively.

A CPU without units for a format emulates it: without bf16 units torch multiplies matrices 5 to 100 times as slowly in
bf16 as in fp32. The CPU's vendor and flags decide, so that one machine always answers the same. torch's own check
(`torch.ops.mkldnn._is_mkldnn_bf16_supported()`) says yes for every CPU with AVX-512, bf16 units or not.
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
# The values of ONEDNN_MAX_CPU_ISA with which oneDNN, torch's library for these products, emulates a format. Source:
# oneDNN's documentation, "CPU Dispatcher Control".
EMULATED_UNDER = {
    "bf16": re.compile(r"SSE41|AVX|AVX2(_VNNI(_2)?)?|AVX512_CORE(_VNNI)?", re.IGNORECASE),
    "fp16": re.compile(r"SSE41|AVX|AVX2(_VNNI(_2)?)?|AVX512_CORE(_VNNI|_BF16)?", re.IGNORECASE),
}


def is_native(precision: str) -> bool:
    """Say whether this process's device computes in a number format at least as fast as in fp32."""
    import torch

    if precision == "fp32":
        return True
    if torch.cuda.is_available():
        return precision == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    return is_native_on_cpu(precision)


def is_native_on_cpu(precision: str) -> bool:
    """Say whether this CPU has fast units for bf16 or fp16, as far as ONEDNN_MAX_CPU_ISA lets oneDNN use them.

    Intel's AVX512-BF16 without AMX does half of what AMD's does: a training step takes twice as long as in fp32
    (tests/benchmarks/results/number_format.md), so it does not count.
    """
    if EMULATED_UNDER[precision].fullmatch(os.environ.get("ONEDNN_MAX_CPU_ISA", "")):
        return False
    words = set(CPUINFO.read_text(encoding="utf-8", errors="replace").split()) if CPUINFO.is_file() else set()
    if precision == "fp16":
        return bool(words & {"avx512_fp16", "amx_fp16"})
    return "amx_bf16" in words or {"avx512_bf16", "AuthenticAMD"} <= words


def device_precision(wanted: str) -> str:
    """Return bf16, fp16 or fp32: what was asked for, or for `auto` the best of what this device computes natively.

    A format asked for by name that the device emulates gets a warning with measured times.
    """
    import torch

    if wanted != "auto":
        warn_if_slow(wanted)
        return wanted
    if is_native("bf16"):
        return "bf16"
    return "fp16" if torch.cuda.is_available() else "fp32"


def precision_of_run(wanted: str, begun: list[str]) -> str:
    """Return the number format of a training: for `auto` the one in which it was begun, else as `device_precision`.

    `begun` are the formats in which there are checkpoints. Raises UserError for a training that was begun in a format
    that this device emulates.
    """
    chosen = device_precision(wanted)
    if wanted != "auto" or not begun or chosen in begun:
        return chosen
    if not is_native(begun[0]):
        raise UserError(
            f"this training was begun in {begun[0]}, which this machine does not compute natively",
            remedy=f"continue where it was begun, set training.precision to {begun[0]} (slow here), or delete its "
            "checkpoints",
        )
    return begun[0]


def precision_of_answers(wanted: str, trained: str) -> str:
    """Return the number format that a trained head reads its base in: for `auto` the one in which it was trained.

    Where the device does not compute that natively it is as `device_precision` says.
    """
    return trained if wanted == "auto" and is_native(trained) else device_precision(wanted)


def torch_dtype(precision: str):
    """Return the torch dtype of bf16, fp16 or fp32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[precision]


@cache
def warn_if_slow(precision: str) -> None:
    """Warn, once, of a format that this device emulates, or has slow units for, with the times of a matrix product."""
    if is_native(precision):
        return
    own, single = product_milliseconds(precision), product_milliseconds("fp32")
    warn(
        f"{precision} is slow on this machine: a matrix product takes {own:.1f} ms, in fp32 {single:.1f} ms "
        f"({own / single:.0f} times as long); training.precision 'auto' takes {device_precision('auto')}"
    )


def product_milliseconds(precision: str) -> float:
    """Return the milliseconds of one matrix product as linear layers have it, the best of three."""
    import torch

    on_gpu = torch.cuda.is_available()
    size = 2048 if on_gpu else 256
    values = torch.ones(size, size, dtype=torch_dtype(precision), device="cuda" if on_gpu else "cpu")
    times = []
    for _ in range(4):  # the first one prepares kernels
        started = time.perf_counter()
        values @ values.T
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 1000 * min(times[1:])
