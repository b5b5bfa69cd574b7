"""The name of a metric, as a field of the configuration: apart from `types`, which stand-ins for base models need."""

from typing import Annotated

from pydantic import WithJsonSchema

from scripts.score.metrics import METRICS

# A run may define its own metrics, so any name is valid here; editors suggest the workflow's metrics.
MetricName = Annotated[str, WithJsonSchema({"anyOf": [{"enum": list(METRICS)}, {"type": "string"}]})]
