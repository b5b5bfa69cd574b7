"""The variants of a run: which models answer the prompts, which one is shipped, and which run trains it."""

from scripts.config.runs import Run
from scripts.tasks import TASKS

# Settings that may differ between two runs that share a model.
ANSWERING = {
    **dict.fromkeys(("generation", "prompt_sets", "strategies", "strategy", "parity", "score"), True),
    **dict.fromkeys(("quants", "variants", "sweep", "select"), True),
    "deploy": {"quant", "system", "limits", "target", "soak"},
}


def gguf_quants(run: Run) -> list[str]:
    """Return the quants of a run without duplicates; bf16 is always first."""
    if TASKS[run.task].classifies or run.method == "prompt":
        return []
    return list(dict.fromkeys(["bf16", *run.quants]))


def answer_variants(run: Run) -> list[str]:
    """Return the variants that answer the prompts and are scored: those in `variants`, or all that the run makes."""
    made = made_variants(run)
    return made if run.variants is None else [variant for variant in made if variant in run.variants]


def made_variants(run: Run) -> list[str]:
    """Return the variants that a run makes, in this order: base, adapter, merged, each quant.

    The method `full` has no adapter, and `prompt` has only the base. A token classifier has only the merged model.
    """
    if run.method == "prompt":
        return ["base"]
    if TASKS[run.task].classifies:
        return ["merged"]
    adapter = [] if run.method == "full" else ["adapter"]
    return ["base", *adapter, "merged", *gguf_quants(run)]


def shipped_variant(run: Run) -> str:
    """Return the variant that is deployed: `deploy.quant`, or the last quant; without quants, the last variant."""
    quants = gguf_quants(run)
    if not quants:
        return made_variants(run)[-1]
    return run.deploy.quant or [*quants, *run.quants][-1]


def trained_by(runs: dict[str, Run]) -> dict[str, str]:
    """Return for each run the name of the run that trains its model: the first with the same model settings.

    Runs that differ only in how they answer, such as those of a sweep over the temperature, share a training.
    """
    first: dict[str, str] = {}
    return {name: first.setdefault(run.model_dump_json(exclude=ANSWERING), name) for name, run in runs.items()}
