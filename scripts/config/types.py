"""Types for the fields of all sections of the configuration."""

import datetime
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from scripts.common.plain_text import name_fault

SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


class Section(BaseModel):
    """A mapping with a fixed set of keys: an unknown key is an error, and no value is converted silently."""

    # Keys of earlier versions, each with the message that replaces "unknown key".
    REMOVED: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield conflicts between settings: dotted key within the section (may be empty) and message.

        These are not Pydantic validators, because the first failing validator would hide the other conflicts.
        """
        yield from ()

    def given(self, *keys: str) -> Iterator[str]:
        """Yield the keys that the user set."""
        yield from (key for key in keys if key in self.model_fields_set)


def number_from_scientific(value: Any) -> Any:
    """Convert text such as ``2e-4`` to a number, because YAML 1.1 reads it as text."""
    return float(value) if isinstance(value, str) and SCIENTIFIC.fullmatch(value) else value


def compiled(pattern: str) -> str:
    """Return the pattern. Raises ValueError if Python's ``re`` can't compile it."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a valid regular expression: {error}") from None
    return pattern


def plain_path(path: str) -> str:
    """Return the path. Raises ValueError if Snakemake or a command line would misread it."""
    if fault := name_fault(path):
        raise ValueError(fault)
    return path


def parsed(template: str, known: Sequence[str] = ()) -> str:
    """Return the template. Raises ValueError if Jinja can't read it, or if it uses a variable that is not `known`."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    try:
        tree = Environment(autoescape=True).parse(template)
        used = meta.find_undeclared_variables(tree) if known else set()
    except TemplateSyntaxError as error:
        raise ValueError(f"is not a valid Jinja template: {error.message}") from None
    except RecursionError:
        raise ValueError("is a template that is nested too deeply; simplify it") from None
    if unknown := sorted(used.difference(known)):
        raise ValueError(f"uses unknown variables: {', '.join(unknown)}; known: {', '.join(known)}")
    return template


Number = Annotated[float, BeforeValidator(number_from_scientific)]
Day = Annotated[datetime.date, Field(strict=False)]  # YAML reads an unquoted date as such, a quoted one as text
Pattern = Annotated[str, AfterValidator(compiled)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
HubId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")]
Text = Annotated[str, StringConstraints(min_length=1)]
FilePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(plain_path)]
LanguageTag = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*$")]
Template = Annotated[str, StringConstraints(min_length=1), AfterValidator(parsed)]
UserTemplate = Annotated[Template, AfterValidator(partial(parsed, known=("prompt", "label")))]
