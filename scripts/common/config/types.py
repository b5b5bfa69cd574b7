"""The types that every section of the configuration is made of."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, StringConstraints

SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class Section(BaseModel):
    """A mapping with a fixed set of keys: an unknown key is an error, and no value is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def number_from_scientific(value: Any) -> Any:
    """Read ``2e-4`` as the number that it is: YAML 1.1 takes it for text, and nobody expects that."""
    return float(value) if isinstance(value, str) and SCIENTIFIC.fullmatch(value) else value


def compiled(pattern: str) -> str:
    """Refuse a pattern that Python's ``re`` can't compile."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no valid regular expression: {error}") from None
    return pattern


Number = Annotated[float, BeforeValidator(number_from_scientific)]
Pattern = Annotated[str, AfterValidator(compiled)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")]
Text = Annotated[str, StringConstraints(min_length=1)]
