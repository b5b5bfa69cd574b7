"""The columns of each format of raw records. The configuration imports this module, so it needs no package."""

from typing import NamedTuple


class Layout(NamedTuple):
    """The columns that a record must have, the keys of its turns, and the columns that it may have."""

    needed: tuple[str, ...] = ()
    of_turns: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


LAYOUTS = {
    "messages": Layout(("messages",), ("role", "content"), ("system", "expected")),
    "prompt_completion": Layout(("prompt", "completion"), optional=("system", "expected")),
    "alpaca": Layout(("instruction", "output"), optional=("input", "system")),
    "sharegpt": Layout(("conversations",), ("from", "value"), ("system", "expected")),
    "fields": Layout(),
    "spans": Layout(("text", "spans"), optional=("system",)),
}
