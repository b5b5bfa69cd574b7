"""Compute in float32 as torch does, without importing it: that would take 1.4 s of CPU time and 500 MB of memory.

The matrix product is that of torch's own library (the BLAS function `sgemm_`, written for torch 2.13), because numpy's
differs in the last bit. tests/integration/test_merge.py compares the results with torch's. Where the library has no
such function, or torch computes products by another library than BLAS, torch itself is used.
"""

import ctypes
import functools
import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path

import numpy

# Number formats of safetensors files and the arrays that hold them; numpy has no bf16.
FLOATS = {"BF16": numpy.uint16, "F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64}
HALF, SIXTEEN, ONE, QUIET = numpy.uint32(0x7FFF), numpy.uint32(16), numpy.uint32(1), numpy.uint32(64)


@functools.cache
def blas_product() -> Callable | None:
    """Return the Fortran function sgemm of torch's library, or None."""
    if platform.machine() != "x86_64":
        return None
    try:
        library = Path(importlib.util.find_spec("torch").origin).parent / "lib/libtorch_cpu.so"
        return ctypes.CDLL(str(library)).sgemm_
    except (OSError, AttributeError):  # AttributeError: without torch too
        return None


def product(left: numpy.ndarray, right: numpy.ndarray, out: numpy.ndarray) -> None:
    """Write left [m, k] times right [k, n] to `out` [m, n]; all are float32 and contiguous."""
    (m, k), n, multiply = left.shape, right.shape[1], blas_product()
    if multiply is None:
        import torch

        torch.mm(torch.from_numpy(left), torch.from_numpy(right), out=torch.from_numpy(out))
        return
    # Fortran reads a matrix by columns, so this is the product of the transposed matrices, as torch calls it.
    sizes = [ctypes.c_int(size) for size in (n, m, k, n, k, n)]
    columns, rows, inner, of_right, of_left, of_out = map(ctypes.byref, sizes)
    right_at, left_at, out_at = (array.ctypes.data_as(ctypes.c_void_p) for array in (right, left, out))
    plain, one, zero = ctypes.c_char_p(b"N"), ctypes.c_float(1), ctypes.c_float(0)
    multiply(
        plain, plain, columns, rows, inner, ctypes.byref(one), right_at, of_right, left_at, of_left,
        ctypes.byref(zero), out_at, of_out,
    )  # fmt: skip


def widened(stored: numpy.ndarray) -> numpy.ndarray:
    """Return an array of `FLOATS` in float32; float64 stays."""
    if stored.dtype == numpy.uint16:
        bits = stored.astype(numpy.uint32)
        numpy.left_shift(bits, SIXTEEN, out=bits)
        return bits.view(numpy.float32)
    return stored if stored.dtype == numpy.float64 else stored.astype(numpy.float32, copy=False)


def narrowed(values: numpy.ndarray, dtype: type) -> numpy.ndarray:
    """Return float32 values in a format of `FLOATS`, rounded to the nearest, ties to even; bf16 as its bits.

    In bf16, NaN becomes quiet and keeps its first bits, as in llama.cpp.
    """
    if dtype != numpy.uint16:
        return values.astype(dtype, copy=False)
    bits = values.view(numpy.uint32)
    rounded = numpy.right_shift(bits, SIXTEEN)
    numpy.bitwise_and(rounded, ONE, out=rounded)
    numpy.add(rounded, bits, out=rounded)
    numpy.add(rounded, HALF, out=rounded)
    numpy.right_shift(rounded, SIXTEEN, out=rounded)
    result = rounded.astype(numpy.uint16)
    unknown = numpy.isnan(values)
    if unknown.any():
        result[unknown] = (bits[unknown] >> SIXTEEN) | QUIET
    return result
