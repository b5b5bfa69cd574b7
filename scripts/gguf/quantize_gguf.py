"""Quantize a bf16 GGUF file, in process, with llama.cpp.

    python scripts/gguf/quantize_gguf.py results/runs/football/gguf/bf16.gguf --quant q4_k_m --threads 2 \\
        --output results/runs/football/gguf/q4_k_m.gguf
"""

import logging
import sys
from pathlib import Path

from scripts.common.cli import step_main, step_parser
from scripts.common.errors import UserError, refuse_full_disk
from scripts.common.files import atomic_path, write_json
from scripts.common.hashing import Hashing
from scripts.gguf.check import check_gguf
from scripts.gguf.llama import keep_native_lines, native_fault, native_lines
from scripts.gguf.reader import read_gguf
from scripts.gguf.tensor_types import quant_line, types_of_quant

RESULT_VERSION = 1  # raise it with a change of the results: see scripts/workflow/code_digest.py
log = logging.getLogger(__name__)


def quantize_gguf(source: Path, output: Path, quant: str, threads: int) -> dict:
    """Quantize a bf16 GGUF file; return the types of its tensors (`types_of_quant`).

    k-quants require row sizes that are multiples of 256; other tensors get the nearest type that fits. The result does
    not depend on the number of threads.
    """
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quant.upper()}"), threads
    with Hashing() as hashing, atomic_path(output) as beside:
        hashing.check_file(source)
        check_gguf(source)
        keep_native_lines()
        status = llama_cpp.llama_model_quantize(str(source).encode(), str(beside).encode(), parameters)
        log.info("%s", "".join(native_lines).strip())
        if status:
            refuse_full_disk(output)
            raise UserError(f"llama.cpp can't quantize it to {quant}: {native_fault()}", source)
        types = types_of_quant(read_gguf(beside), quant)
        hashing.finish()
    log.info("%s", quant_line(types))
    return types


def step(arguments) -> None:
    """Run the step."""
    types = quantize_gguf(arguments.source, arguments.output, arguments.quant, arguments.threads)
    if arguments.types:
        write_json(arguments.types, types)


def parser():
    """Return the step's command line."""
    result = step_parser(__doc__.splitlines()[0])
    result.add_argument("source", type=Path, help="bf16 GGUF file")
    result.add_argument("--quant", required=True, help="quant to make, such as q8_0")
    result.add_argument("--threads", type=int, default=1, help="threads to quantize with")
    result.add_argument("--output", type=Path, required=True, help="GGUF file to write")
    result.add_argument("--types", type=Path, help="JSON file to write: the number of tensors of each type")
    return result


main = step_main(step, parser)

if __name__ == "__main__":
    sys.exit(main())
