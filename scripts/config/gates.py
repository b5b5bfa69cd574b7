"""The section `gates`: conditions that a trained model must meet to be promoted."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from scripts.config.metric_name import MetricName
from scripts.config.runs import VARIANTS
from scripts.config.types import Name, Number, Section

Variant = Literal[(*VARIANTS, "shipped")]


class Gate(Section):
    """A condition on one metric; with a baseline, on the paired difference."""

    metric: MetricName = Field(description="Metric: a key of docs/reference/metrics.md or of `metrics_from`.")
    comparison: Literal["below", "above"] = Field(description="Side of the threshold on which the value must be.")
    threshold: Number = Field(description="Bound of the metric; with a baseline, of variant minus baseline.")
    relative: bool = Field(False, description="With a baseline: the difference is a share of the baseline's value.")
    variant: Variant = Field("shipped", description="Variant whose value is used; `shipped` is the bundle's quant.")
    baseline: Variant | None = Field(None, description="Variant to compare with; none: the value itself is compared.")
    on_failure: Literal["hold", "rollback"] = Field("hold", description="Verdict when the gate clearly fails.")
    looks: int = Field(
        1,
        ge=1,
        le=1000,
        description="How often the gate will be looked at on this test split, which may grow; each look's interval is "
        "then wider: that of 1 - 0.05 / looks.",
    )
    runs: list[Name] | None = Field(None, min_length=1, description="Runs (of a sweep: all of its runs); none: all.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.relative and self.baseline is None:
            yield "relative", "needs a 'baseline' to be relative to"
        if self.baseline is not None and self.baseline == self.variant:
            yield "baseline", f"compares '{self.variant}' with itself"


Gates = dict[Name, Gate]
