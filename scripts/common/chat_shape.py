"""Find the shape of a chat template: the fixed text that it puts around messages.

A Modelfile's TEMPLATE can't run Jinja. But most chat templates only put fixed text around each message. To find this
text, the template renders messages with unique placeholders as contents.
"""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from scripts.common.errors import UserError

Render = Callable[[list[dict], bool], str]
Placement = Literal["none", "in_place", "at_start", "first_user", "last_message", "last_user"]
SYSTEM, USER, ANSWER = "⟦system⟧", "⟦user {}⟧", "⟦answer {}⟧"
REMEDY = "set a simpler template with 'chat_template' under its model"


@dataclass(frozen=True)
class ChatShape:
    """The pieces of a chat template.

    A rendered conversation is `bos`, `opening`, then prefix, content and suffix of each turn. `generation` follows if
    the assistant speaks next, or `closing` after the assistant's last answer.

    `system` is the position of the system message:

    - `in_place`: among the other messages
    - `at_start`: at the start, instead of `opening`
    - `first_user`, `last_user`: in the first or the last user message
    - `last_message`: in the last message, if the user wrote it
    - `none`: the template refuses or ignores a system message

    In a user message, `system_prefix` and `system_suffix` surround the system text and replace the turn's prefix.
    `trims` lists the roles whose contents the template strips of outer white space.
    """

    bos: str
    opening: str
    first_user_prefix: str
    user_prefix: str
    user_suffix: str
    assistant_prefix: str
    assistant_suffix: str
    generation: str
    closing: str
    system: Placement
    system_prefix: str
    system_suffix: str
    trims: tuple[str, ...]

    def to_json(self) -> dict:
        """Return the pieces as a JSON-ready mapping."""
        return asdict(self)

    @classmethod
    def from_json(cls, pieces: dict) -> "ChatShape":
        """Return the shape that `to_json` converted."""
        return cls(**{**pieces, "trims": tuple(pieces["trims"])})

    def render(self, messages: list[dict]) -> str:
        """Render a conversation, with the generation prompt unless it ends with an answer."""
        system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
        users = [i for i, message in enumerate(messages) if message["role"] == "user"]
        holder = self.system_holder(messages, users) if system else None
        at_start = self.system == "at_start" and system
        text = self.bos + (self.system_prefix + system + self.system_suffix if at_start else self.opening)
        for i, message in enumerate(messages):
            content = message["content"]
            if message["role"] == "system":
                text += self.system_prefix + content + self.system_suffix if self.system == "in_place" else ""
            elif message["role"] == "user":
                plain = self.first_user_prefix if i == users[0] else self.user_prefix
                prefix = self.system_prefix + system + self.system_suffix if i == holder else plain
                text += prefix + content + self.user_suffix
            else:
                text += self.assistant_prefix + content + self.assistant_suffix
        return text + (self.closing if messages and messages[-1]["role"] == "assistant" else self.generation)

    def system_holder(self, messages: list[dict], users: list[int]) -> int | None:
        """Return the position of the user message that contains the system text, or None."""
        if not users:
            return None
        if self.system == "last_message":
            return users[-1] if messages[-1]["role"] == "user" else None
        return {"first_user": users[0], "last_user": users[-1]}.get(self.system)

    def pieces(self) -> list[str]:
        """Return all pieces."""
        return [value for value in asdict(self).values() if isinstance(value, str)]


def turns(count: int, system: str | None = None, user: str = USER, answer: str = ANSWER) -> list[dict]:
    """Return a conversation of `count` alternating turns, user first, with an optional system message before them."""
    messages = [{"role": "system", "content": system}] if system is not None else []
    for i in range(count):
        role, text = ("user", user) if i % 2 == 0 else ("assistant", answer)
        messages.append({"role": role, "content": text.format(i // 2)})
    return messages


def rendered(render: Render, messages: list[dict]) -> str:
    """Call `render` on a conversation, with the generation prompt unless it ends with an answer."""
    return render(messages, messages[-1]["role"] != "assistant")


def split_at(text: str, contents: list[str]) -> list[str]:
    """Return the text before, between and after the contents. Each must occur exactly once, in this order."""
    parts, rest = [], text
    for content in contents:
        before, found, rest = rest.partition(content)
        if not found or content in rest:
            raise UserError(f"the chat template loses or repeats the message '{content}'", remedy=REMEDY)
        parts.append(before)
    return [*parts, rest]


def derive_shape(render: Render, bos: str) -> ChatShape:
    """Find the pieces of a chat template, and check on many conversations that they reproduce its output.

    `render(messages, add_generation_prompt)` renders the template and raises UserError for a conversation that the
    template refuses. `bos` is the text of the BOS token. Raises UserError for a template that is more than fixed text
    around messages.
    """
    user, answer = USER.format(0), ANSWER.format(0)
    start, after_prompt = split_at(render(turns(1), True), [user])
    start_plain, after_user = split_at(render(turns(1), False), [user])
    _, to_answer, after_answer = split_at(render(turns(2), False), [user, answer])
    _, _, to_next, _ = split_at(render(turns(3), True), [user, answer, USER.format(1)])
    if start != start_plain:
        raise UserError("the chat template starts differently with a generation prompt", remedy=REMEDY)
    has_bos = bool(bos) and start.startswith(bos)
    start = start.removeprefix(bos) if has_bos else start
    assistant_suffix, user_prefix, closing = split_turns(to_next, after_answer, start)
    user_suffix = after_user.removesuffix(closing) if closing else after_user
    if not after_prompt.startswith(user_suffix) or not to_answer.startswith(user_suffix):
        raise UserError("the chat template ends a user message differently when more follows", remedy=REMEDY)
    continues = start.endswith(user_prefix)
    shape = ChatShape(
        bos=bos if has_bos else "",
        opening=start.removesuffix(user_prefix) if continues else "",
        first_user_prefix=user_prefix if continues else start,
        user_prefix=user_prefix,
        user_suffix=user_suffix,
        assistant_prefix=to_answer.removeprefix(user_suffix),
        assistant_suffix=assistant_suffix,
        generation=after_prompt.removeprefix(user_suffix),
        closing=closing,
        **(system := system_pieces(render, bos if has_bos else "", start, user_prefix)),
        trims=trimmed_roles(render, system["system"] != "none"),
    )
    verify_shape(shape, render)
    return shape


def split_turns(to_next: str, after_answer: str, start: str) -> tuple[str, str, str]:
    """Split the text between an answer and the next user message into answer suffix, user prefix and closing."""
    if to_next.startswith(after_answer):
        return after_answer, to_next.removeprefix(after_answer), ""
    suffix = to_next.removesuffix(start)
    if not to_next.endswith(start) or not after_answer.startswith(suffix):
        raise UserError("the chat template ends an answer differently when more follows", remedy=REMEDY)
    return suffix, start, after_answer.removeprefix(suffix)


def system_pieces(render: Render, bos: str, start: str, user_prefix: str) -> dict[str, str]:
    """Return the position of the system message and the text around it."""
    nowhere = {"system": "none", "system_prefix": "", "system_suffix": ""}
    try:
        single, answered, double = (rendered(render, turns(count, SYSTEM)) for count in (1, 2, 3))
    except UserError:
        return nowhere
    if SYSTEM not in double:
        return nowhere
    first, last = USER.format(0), USER.format(1)
    if double.index(SYSTEM) > double.index(first):
        _, between, suffix, _ = split_at(double, [ANSWER.format(0), SYSTEM, last])
        plain = split_at(rendered(render, turns(3)), [ANSWER.format(0), last])[1]
        prefix = between.removeprefix(plain.removesuffix(user_prefix))
        system = "last_user" if SYSTEM in answered else "last_message"
        return {"system": system, "system_prefix": prefix, "system_suffix": suffix}
    before, between, _ = split_at(single, [SYSTEM, first])
    before = before.removeprefix(bos)
    opening = start.removesuffix(user_prefix)
    if not between.endswith(user_prefix) or not user_prefix:
        prefix = before.removeprefix(opening) if start.endswith(user_prefix) else before
        return {"system": "first_user", "system_prefix": prefix, "system_suffix": between}
    in_place = start.endswith(user_prefix) and before.startswith(opening)
    return {
        "system": "in_place" if in_place else "at_start",
        "system_prefix": before.removeprefix(opening) if in_place else before,
        "system_suffix": between.removesuffix(user_prefix),
    }


def trimmed_roles(render: Render, with_system: bool) -> tuple[str, ...]:
    """Return the roles whose contents the template strips of outer white space."""

    def strips(role: str) -> bool:
        plain = turns(3, SYSTEM if role == "system" else None)
        wide = [{**m, "content": f" {m['content']}\n"} if m["role"] == role else m for m in plain]
        return rendered(render, wide) == rendered(render, plain)

    return tuple(role for role in ("system", "user", "assistant")[not with_system :] if strips(role))


TEXTS = (
    "But !",
    "Égalité à la 90'+3 : « quel match », dit-il…",
    "Một câu chuyện nhỏ,  hai khoảng trắng.",
    "two\nlines\n\nand a third 👩‍👩‍👧 🇫🇷",
    "{{ .System }} {% if x %} \\n \"quoted\" 'single' `back` <b>&amp;</b>",
    "1",
)


def probe_conversations(with_system: bool, trims: tuple[str, ...] = ()) -> list[list[dict]]:
    """Return conversations of one to seven turns with contents that many templates handle incorrectly.

    Contents of the roles in `trims` have no outer white space.
    """
    texts = itertools.cycle((*TEXTS, "  outer white space \n"))
    systems = [None, "Tu es un commentateur.", "Hai dòng:\nmột  và hai", " wide "] if with_system else [None]
    found = []
    for count, system in itertools.product(range(1, 8), systems):
        messages = turns(count, system)
        for message in messages[system is not None :]:
            message["content"] = next(texts)
        for message in messages:
            message["content"] = message["content"].strip() if message["role"] in trims else message["content"]
        found.append(messages)
    return found


def verify_shape(shape: ChatShape, render: Render) -> None:
    """Compare the shape with the template on many conversations. Raises UserError at the first difference."""
    for messages in probe_conversations(shape.system != "none", shape.trims):
        expected, found = rendered(render, messages), shape.render(messages)
        if expected != found:
            place = next(i for i, pair in enumerate(itertools.zip_longest(expected, found)) if len(set(pair)) > 1)
            raise UserError(
                "the chat template is more than fixed text around messages: a conversation of "
                f"{len(messages)} messages has {expected[place : place + 20]!r} at character {place}, "
                f"not {found[place : place + 20]!r}",
                remedy=REMEDY,
            )


def shape_of_template(template: str, bos_token: str, eos_token: str) -> ChatShape:
    """Find the shape of a Jinja chat template; see `derive_shape`.

    Also raises UserError for a template that writes the current date, because its text would differ from that in
    training.
    """
    from jinja2 import TemplateError

    from scripts.common.chat_template import render_template

    def render(messages: list[dict], add_generation_prompt: bool, **clock) -> str:
        try:
            return render_template(template, messages, bos_token, eos_token, add_generation_prompt, **clock)
        except TemplateError as error:
            raise UserError(f"the chat template refuses the conversation: {error}") from None

    days = datetime(2020, 1, 1), datetime(2021, 12, 31)
    if len({render(turns(1), True, strftime_now=day.strftime) for day in days}) > 1:
        raise UserError("the chat template writes the current date", remedy=REMEDY)
    return derive_shape(render, bos_token)
