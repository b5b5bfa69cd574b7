"""Replace the current date in a chat template by a fixed date.

Llama 3.1 and later, Mistral Small 3.1 and others put the date into every prompt (`strftime_now`). Prompts would differ
between training and serving, and between llama.cpp and Ollama. The date is therefore fixed when the model is imported:
training, GGUF, parity check, Modelfile and transformers all use the same text.
"""

import json
import logging
import multiprocessing
import re
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from pathlib import Path

from scripts.common.chat_shape import probe_conversations
from scripts.common.chat_template import render_template
from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.common.parent_watchdog import die_with_parent

CLOCK = "strftime_now"
CALL = re.compile(rf"{CLOCK}\(\s*(?:format\s*=\s*)?([\"'])((?:(?!\1).)*)\1\s*\)")
DEFINED = re.compile(rf"\b{CLOCK}\s+is\s+(not\s+)?(un)?defined\b")
OWN_DEFAULT = "the template's own"
OTHER_DAYS = (datetime(2001, 2, 3), datetime(2031, 12, 30))
MAX_SECONDS, MAX_MEMORY = 30, 2 << 30  # CPU seconds, and bytes of address space, for the trial of a template
TEMPLATE, LEGACY, TOKENIZER = "chat_template.jinja", "chat_template.json", "tokenizer_config.json"
log = logging.getLogger(__name__)


def rendered(template: str, messages: list[dict], day: datetime | None) -> str | None:
    """Return a template's rendering of a conversation on a day (None: without a clock); None if it refuses."""
    from jinja2 import TemplateError, Undefined

    clock = Undefined(name=CLOCK) if day is None else day.strftime
    try:
        return render_template(template, messages, "<s>", "</s>", messages[-1]["role"] != "assistant", **{CLOCK: clock})
    except TemplateError:
        return None


def pinned_template(template: str, day: str | None = None) -> tuple[str, str | None]:
    """Return a chat template that renders the same on every day, and its date.

    `day` is an ISO date; None uses the template's default, which it writes without a clock. A template that does not
    use the date is returned unchanged, with None. Raises UserError if there is no default, or if the use of the date
    can't be replaced.
    """
    if CLOCK not in template:
        if day is not None:
            log.warning("template_date has no effect: the chat template does not ask for the date")
        return template, None
    fixed = None if day is None else datetime.fromisoformat(day)

    def answer(call: re.Match) -> str:
        return json.dumps("" if fixed is None else fixed.strftime(call[2]), ensure_ascii=False)

    def guard(test: re.Match) -> str:
        return str((fixed is not None) != (bool(test[1]) != bool(test[2]))).lower()

    pinned = DEFINED.sub(guard, CALL.sub(answer, template))
    conversations = probe_conversations(with_system=True)
    wanted = [rendered(template, messages, fixed) for messages in conversations]
    if fixed is None and not any(wanted):
        raise UserError(
            "the chat template asks for the current date and has no default for it",
            remedy="set 'template_date' under the model, such as template_date: 2024-07-26",
        )
    same = all([rendered(pinned, m, other) for m in conversations] == wanted for other in OTHER_DAYS)
    if CLOCK in pinned or not same:
        raise UserError(
            f"the chat template asks for the current date ({CLOCK}) in a way that can't be replaced by a fixed one",
            remedy="write the date into a copy of it, and name that with 'chat_template' under the model",
        )
    return pinned, day or OWN_DEFAULT


def tried_template(template: str, day: str | None = None) -> tuple[str, str | None]:
    """Return the result of `pinned_template` from a child process with a limit on time and memory.

    Raises UserError for a template that exceeds a limit, and like `pinned_template`.
    """
    limits = (MAX_SECONDS, MAX_MEMORY)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), set_limits, limits) as child:
            return child.submit(render_and_pin, template, day).result()
    except (BrokenProcessPool, MemoryError):  # the kernel killed the child, or refused memory
        raise UserError(
            f"the chat template needs more than {MAX_SECONDS} seconds of CPU time or {MAX_MEMORY >> 20} MiB",
            remedy="name a simpler template with 'chat_template' under the model",
        ) from None


def set_limits(seconds: int, memory: int) -> None:
    """Let the kernel kill this process after `seconds` of CPU time, and limit it to `memory` bytes."""
    die_with_parent()
    for kind, limit in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
        hard = resource.getrlimit(kind)[1]  # of this machine; it can't be raised
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))


def render_and_pin(template: str, day: str | None) -> tuple[str, str | None]:
    """Return the result of `pinned_template`, after rendering the template for many conversations."""
    for messages in probe_conversations(with_system=True):
        rendered(template, messages, None if day is None else datetime.fromisoformat(day))
    return pinned_template(template, day)


def template_of_folder(folder: Path) -> str | None:
    """Return the chat template of a model folder that transformers uses; None if there is none."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    for name in (LEGACY, TOKENIZER):
        found = read_json(folder / name).get("chat_template") if (folder / name).is_file() else None
        if isinstance(found, list):
            found = next((entry["template"] for entry in found if entry["name"] == "default"), None)
        if found:
            return found
    return None


def pin_template_date(folder: Path, day: str | None = None) -> str | None:
    """Try the chat template of a model folder and fix its date; return the date, or None if it uses none.

    The fixed template is written to chat_template.jinja, which takes precedence. Raises UserError like
    `tried_template`.
    """
    template = template_of_folder(folder)
    if template is None:
        return None
    pinned, written = tried_template(template, day)
    if written is not None:
        (folder / TEMPLATE).write_text(pinned, encoding="utf-8")
    return written
