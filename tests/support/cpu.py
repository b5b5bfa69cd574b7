"""A CPU that looks like another one, by its vendor and flags in /proc/cpuinfo."""

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common import number_format

MILAN = "vendor_id : AuthenticAMD\nflags : fpu avx avx2 fma\n"
GENOA = "vendor_id : AuthenticAMD\nflags : fpu avx2 avx512f avx512_bf16\n"
SAPPHIRE_RAPIDS = "vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile\n"
WITHOUT_AMX = "vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 avx512_fp16\n"
CPUS = {
    "MILAN": MILAN, "GENOA": GENOA, "SAPPHIRE_RAPIDS": SAPPHIRE_RAPIDS, "WITHOUT_AMX": WITHOUT_AMX, "UNKNOWN": "",
}  # fmt: skip


def look_like_another_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function of /proc/cpuinfo's text, and of a value of ONEDNN_MAX_CPU_ISA, which is unset otherwise."""

    def look_like(text: str, isa: str | None = None) -> None:
        (folder / "cpuinfo").write_text(text)
        monkeypatch.setattr(number_format, "CPUINFO", folder / "cpuinfo")
        monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
        if isa is not None:
            monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)

    number_format.warn_if_slow.cache_clear()
    return look_like
