"""The variants of a run: what its answers are made with, which of them is shipped, and whose model it is."""

from typing import Any

from scripts.config.runs import Run

# What may differ between two runs that have one model.
ANSWERING = {
    "generation", "prompt_sets", "strategies", "strategy", "parity", "score", "quants", "variants", "sweep"
}  # fmt: skip


def gguf_quants(run: Run) -> list[str]:
    """Return the quants of a run in the order in which they are made: bf16 always first, none twice."""
    if run.task == "token_classification" or run.method == "prompt":
        return []
    return list(dict.fromkeys(["bf16", *run.quants]))


def answer_variants(run: Run) -> list[str]:
    """Return the variants that answer the prompts and are scored: those of `variants`, or all that the run makes."""
    made = made_variants(run)
    return made if run.variants is None else [variant for variant in made if variant in run.variants]


def made_variants(run: Run) -> list[str]:
    """Return the variants that a run makes, in their order: base, adapter, merged, each quant.

    There is no adapter with the method `full`, and only the base with `prompt`; a token classifier has one variant,
    the merged model that is deployed.
    """
    if run.method == "prompt":
        return ["base"]
    if run.task == "token_classification":
        return ["merged"]
    adapter = [] if run.method == "full" else ["adapter"]
    return ["base", *adapter, "merged", *gguf_quants(run)]


def shipped_variant(run: Run) -> str:
    """Return the variant that is deployed: `deploy.quant`, or the last quant; without any, the last variant."""
    quants = gguf_quants(run)
    if not quants:
        return made_variants(run)[-1]
    return run.deploy.quant or [*quants, *run.quants][-1]


def model_settings_of(run: Run) -> dict[str, Any]:
    """Return the settings that shape a run's model and its GGUF files."""
    settings = run.model_dump(mode="json", exclude=ANSWERING)
    deploy = {key: settings["deploy"][key] for key in ("parameters", "description")}
    return {**settings, "deploy": deploy}


def trained_by(runs: dict[str, Run]) -> dict[str, str]:
    """Return for each run the name of the run whose model it answers with: the first with the same settings.

    Runs that differ in nothing but how they answer, such as those of a sweep over the temperature, share a training.
    """
    first: dict[str, str] = {}
    shared = {}
    for name, run in runs.items():
        key = repr(model_settings_of(run))
        shared[name] = first.setdefault(key, name)
    return shared
