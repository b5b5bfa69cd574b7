"""The registry of metrics: each is a function with the decorator `metric`, which says all that others need to know.

The arguments of the decorator are literals, so that they can be read from the syntax tree: the configuration knows a
metric without importing what computes it. A run brings more with `score.metrics_from`.
"""

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from scripts.common.errors import UserError

Direction = Literal["lower", "higher", "neither"]
Statistic = Literal[
    "mean", "yes_no", "ratio", "share", "exp_ratio", "bleu", "chrf", "variation", "f1", "f1_macro", "f1_weighted",
    "votes", "p50", "p95",
]  # fmt: skip
MODULES = ("similarity", "diversity", "style", "entities", "people")  # of scripts/score, in the order of reports
QUANTILES = {"p50": 0.5, "p95": 0.95}
SHARES = ("yes_no", "share", "f1", "f1_macro", "f1_weighted")  # in [0, 1]; 0 or 1 only if all records agree
# Keys of earlier versions, each with the one in its place.
RENAMED = {"repetition_across": "repetition_recent"}
UNITS = {**dict.fromkeys(SHARES, "%"), "p50": "s", "p95": "s"}
KNOWN = {
    "direction": get_args(Direction),
    "statistic": get_args(Statistic),
    "unit": (None, "", "%", "s", "words"),
    "setting": (None, "generic_phrases", "assistant_phrases", "price_per_hour", "votes"),
}
FUNCTIONS: dict[str, Callable] = {}  # of the modules that were imported


@dataclass(frozen=True)
class Metric:
    """What is known of a metric.

    `statistic` says how the rows that its function returns become one value (scripts/score/statistics.py), `direction`
    which values are better, `meaning` what it is: by default the first paragraph of the function's docstring. The unit
    follows from the statistic unless it is given; "%" means between 0 and 1 by definition, or above if `unbounded`.
    `tables` maps a kind of answers (`entities`, `exact`, `text`), or `style`, to the metric's place among the columns
    of its tables; an `optional` column needs a value. `quality`: it compares answers with the expected ones, or people
    judge them; a run without a gate on such a metric of its shipped variant is not promoted. `spans`: it needs records
    with spans; `classifier`: token classifiers have it. `language`: it is for texts in one language. `setting`: the key
    of `score` that it needs.
    """

    title: str
    direction: Direction
    statistic: Statistic = "mean"
    unit: str | None = None
    unbounded: bool = False
    meaning: str = ""
    tables: dict[str, int] = field(default_factory=dict)
    optional: bool = False
    quality: bool = False
    spans: bool = False
    classifier: bool = False
    language: str | None = None
    setting: str | None = None

    def __post_init__(self) -> None:
        for key, known in KNOWN.items():
            if getattr(self, key) not in known:
                words = ", ".join(f"'{word}'" for word in known if word is not None)
                raise ValueError(f"{key} is '{getattr(self, key)}'; it is one of {words}")
        if self.unit is None:
            object.__setattr__(self, "unit", UNITS.get(self.statistic, ""))

    @property
    def arrow(self) -> str:
        return {"lower": "↓", "higher": "↑", "neither": ""}[self.direction]

    @property
    def is_by_people(self) -> bool:
        """Whether the metric is of people's votes."""
        return self.setting == "votes"

    @property
    def is_share(self) -> bool:
        """Whether the metric lies between 0 and 1 by definition."""
        return self.unit == "%" and not self.unbounded


def metric(title: str, *, name: str | None = None, **facts) -> Callable:
    """Return a decorator that makes a function a metric, by its own name or by `name`.

    The function takes a `ScoringInput` and returns a `MetricResult`; the other arguments are those of `Metric`.
    """
    Metric(title, **facts)

    def register(function: Callable) -> Callable:
        FUNCTIONS[name or function.__name__] = function
        return function

    return register


def meaning(function: ast.FunctionDef) -> str:
    """Return the first paragraph of a function's docstring on one line, without the point at its end."""
    return " ".join((ast.get_docstring(function) or "").partition("\n\n")[0].split()).removesuffix(".")


@functools.cache
def read_metrics(path: Path) -> dict[str, Metric]:
    """Return the metrics of a module by name, from its syntax tree; UserError if it has anything but literals."""
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror}", path) from None
    except (SyntaxError, ValueError) as error:
        raise UserError(f"is not valid Python: {error}", path) from None
    found = {}
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "metric":
                try:
                    facts = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                    name = facts.pop("name", function.name)
                    facts.setdefault("meaning", meaning(function))
                    found[name] = Metric(*map(ast.literal_eval, call.args), **facts)
                except (TypeError, ValueError) as error:
                    raise UserError(
                        f"the metric {function.name}: {error}", path, call.lineno, "give literals, as `Metric` has them"
                    ) from None
    return found


def metrics_from(path: str) -> dict[str, Metric]:
    """Return the metrics of a file of `score.metrics_from`; see `located`."""
    found = read_metrics(located(path))
    if not found:
        raise UserError("has no metric", path, remedy="decorate a function with @metric(...)")
    return found


def located(path: str) -> Path:
    """Return the path of a file that lies in the working directory, else in the workflow's own folder."""
    beside = Path(__file__).parents[2] / path
    return Path(path) if Path(path).exists() or not beside.exists() else beside


def has_quality_gate(gates: dict[str, dict], shipped: str) -> bool:
    """Whether a gate is on a quality metric of the shipped variant; `gates` are a run's sections by name."""
    return any(gate["variant"] in (shipped, "shipped") and METRICS[gate["metric"]].quality for gate in gates.values())


# The metrics of scripts/score; those of a run's own file are added when they are read.
METRICS = {
    name: entry for module in MODULES for name, entry in read_metrics(Path(__file__).with_name(f"{module}.py")).items()
}
