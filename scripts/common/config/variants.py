"""The variants of a run: what its answers are made with, and which of them is shipped."""

from scripts.common.config.runs import Run


def gguf_quants(run: Run) -> list[str]:
    """Return the quants of a run in the order in which they are made: bf16 always first, none twice."""
    return list(dict.fromkeys(["bf16", *run.quants])) if run.task != "token_classification" else []


def answer_variants(run: Run) -> list[str]:
    """Return what the same prompts are answered with: base, adapter (not with method full), merged, each quant."""
    adapter = [] if run.method == "full" else ["adapter"]
    return ["base", *adapter, "merged", *gguf_quants(run)]


def shipped_quant(run: Run) -> str:
    """Return the quant that goes into the bundle: `deploy.quant`, or the last of `quants` (bf16 when there is none)."""
    return run.deploy.quant or [*gguf_quants(run), *run.quants][-1]
