"""Convert weights to float32 and back without torch, whose import takes 1.4 s of CPU time and 500 MB of memory."""

import numpy

# Number formats of safetensors files and the arrays that hold them; numpy has no bf16.
FLOATS = {"BF16": numpy.uint16, "F16": numpy.float16, "F32": numpy.float32, "F64": numpy.float64}
HALF, SIXTEEN, ONE, QUIET = numpy.uint32(0x7FFF), numpy.uint32(16), numpy.uint32(1), numpy.uint32(64)


def widen(stored: numpy.ndarray, out: numpy.ndarray) -> None:
    """Write values of a format of `FLOATS` to a float32 array of the same shape."""
    if stored.dtype != numpy.uint16:
        out[...] = stored
        return
    bits = out.view(numpy.uint32)
    bits[...] = stored
    numpy.left_shift(bits, SIXTEEN, out=bits)


def narrow(values: numpy.ndarray, out: numpy.ndarray, spare: numpy.ndarray) -> None:
    """Write float32 values to an array of a format of `FLOATS`, rounded to the nearest, ties to even; bf16 as its bits.

    `spare` is a float32 array of the same shape that is overwritten. In bf16, NaN becomes quiet and keeps its first
    bits, as in llama.cpp.
    """
    if out.dtype != numpy.uint16:
        out[...] = values
        return
    bits, rounded = values.view(numpy.uint32), spare.view(numpy.uint32)
    numpy.right_shift(bits, SIXTEEN, out=rounded)
    numpy.bitwise_and(rounded, ONE, out=rounded)
    numpy.add(rounded, bits, out=rounded)
    numpy.add(rounded, HALF, out=rounded)
    numpy.right_shift(rounded, SIXTEEN, out=rounded)
    out[...] = rounded
    if numpy.isnan(numpy.maximum.reduce(values, axis=None, initial=0)):
        unknown = numpy.isnan(values)
        out[unknown] = (bits[unknown] >> SIXTEEN) | QUIET
