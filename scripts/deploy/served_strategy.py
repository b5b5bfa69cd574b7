"""The chosen prompt strategy of a bundle, so that the served prompts are those that were scored."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scripts.common.files import read_jsonl
from scripts.common.records import normalised, text_of
from scripts.predict.strategies import Strategies


@dataclass(frozen=True)
class ServedStrategy:
    """The prompt around a question: system text, name of the strategy, wording, and turns of the examples."""

    system: str | None
    name: str | None = None
    user: str | None = None
    examples: list[dict] = field(default_factory=list)


def served_strategy(run: dict, train: Path | None) -> ServedStrategy:
    """Return the strategy of a run's bundle; `train` is the training split, for a strategy with examples."""
    system, name = run["deploy"]["system"], run.get("strategy")
    if name is None:
        return ServedStrategy(system)
    chosen = run["strategies"][name]
    strategies = Strategies({"strategies": {name: chosen}, "strategy": name}, train)
    own = chosen.get("system") or None
    return ServedStrategy(own if system is None else system, name, chosen.get("user"), strategies.examples(name))


def asked_systems(run: dict, test: Path) -> Counter[str]:
    """Return the counts of the system texts with which the test split was scored; an empty text means none.

    `generation.system` replaces a record's text, and the chosen strategy's replaces both.
    """
    name = run.get("strategy")
    chosen = None if name is None else run["strategies"][name].get("system")
    instead = run["generation"]["system"] if chosen is None else chosen
    found: Counter[str] = Counter()
    for row in read_jsonl(test):
        own = next((text_of(m["content"]) for m in row["messages"] if m["role"] == "system"), "")
        found[normalised(own if instead is None else instead)] += 1
    return found


def lacking_system(system: str | None, asked: Counter[str]) -> str | None:
    """Return a note if questions were scored with a system message and the bundle has none."""
    count = asked.total() - asked[""]
    if system or not count:
        return None
    return f"{count} of {asked.total()} test questions were asked with a system message; the bundle has none"


def context_of(served: ServedStrategy, max_length: int, header: dict) -> int:
    """Return the default context of a bundle in tokens.

    It is the length of a training row plus the text that the strategy adds, estimated as one token per two bytes, an
    upper bound in practice. It is at most the model's context; `header` has the GGUF file's metadata values.
    """
    texts = [served.system or "", served.user or "", *(turn["content"] for turn in served.examples)]
    added = sum(len(text.encode("utf-8")) for text in texts) // 2 if served.name else 0
    return min(max_length + added, header.get(f"{header['general.architecture']}.context_length", max_length + added))
