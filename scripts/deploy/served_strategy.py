"""The chosen prompt strategy, as it goes into a bundle: what was scored is what is served."""

from dataclasses import dataclass, field
from pathlib import Path

from scripts.predict.strategies import Strategies


@dataclass(frozen=True)
class ServedStrategy:
    """What stands around a question: system text, the template that words it, and the turns of the examples."""

    system: str | None
    user: str | None = None
    examples: list[dict] = field(default_factory=list)


def served_strategy(run: dict, train: Path | None) -> ServedStrategy:
    """Return what a run's bundle puts around a question; `train` is the training split, for a strategy with examples.

    A system text of `deploy.system` goes before that of the chosen strategy.
    """
    system, name = run["deploy"]["system"], run.get("strategy")
    if name is None:
        return ServedStrategy(system)
    chosen = run["strategies"][name]
    strategies = Strategies({"strategies": {name: chosen}, "strategy": name}, train)
    own = chosen.get("system") or None
    return ServedStrategy(own if system is None else system, chosen.get("user"), strategies.examples(name))


def strategy_lines(run: dict) -> list[str]:
    """Return what the model card says of the chosen strategy; nothing without one."""
    name = run.get("strategy")
    if name is None:
        return []
    chosen = run["strategies"][name]
    parts = [f"The results are those of the prompt strategy `{name}`, which the Modelfile and the examples follow."]
    if chosen.get("user"):
        parts += [
            "It puts the question in other words, which the Python examples do by themselves; with Ollama or "
            "`llama-cli`, write the question so (`prompt` is the question itself):",
            "",
            "```jinja",
            *chosen["user"].strip().splitlines(),
            "```",
        ]
    return [*parts, ""]
