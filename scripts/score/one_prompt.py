"""One test prompt of a run with the answers of base, adapter and shipped variant, for the summary."""

from collections import Counter
from pathlib import Path

from rich.table import Table
from rich.text import Text

from scripts.common.files import read_json, read_jsonl
from scripts.common.plain_text import visible
from scripts.score.columns import MAIN
from scripts.score.entity_rows import EntityRow, asked_text, entity_row
from scripts.score.metrics import METRICS
from scripts.score.shown import in_a_sentence

LONGEST = 240  # characters of a prompt or an answer


def typical_record(metric: str, scores: dict, baseline: dict | None) -> tuple[str | None, bool]:
    """Return (id, True) of the test record with the median of a metric, or of its difference from the baseline.

    `scores` and `baseline` are score files. If no record has a value: (id of the first record or None, False).
    """
    theirs = dict(zip(baseline["ids"], baseline["per_record"].get(metric) or [], strict=False)) if baseline else {}
    found = []
    for identity, value in zip(scores["ids"], scores["per_record"].get(metric) or [], strict=False):
        other = theirs.get(identity) if baseline else 0
        if value is not None and other is not None:
            found.append((value - other, len(found), identity))
    if found:
        return sorted(found)[(len(found) - 1) // 2][-1], True
    return (scores["ids"][0] if scores["ids"] else None), False


def shortened(text: str) -> str:
    """Return text on one line, truncated to LONGEST characters, with control characters escaped."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= LONGEST else line[:LONGEST].rstrip() + " […]"


def entity_text(row: EntityRow) -> Text:
    """Return the entities of an answer, wrong ones marked with ✘, and the missed ones."""
    if not row.valid:
        return Text("not valid JSON of entities", style="red")
    wanted = Counter(row.gold)
    parts = []
    for start, end, label in sorted(row.found):
        right = wanted[start, end, label] > 0
        wanted[start, end, label] -= right
        parts.append(("" if right else "✘ ", label, row.text[start:end], "green" if right else "red"))
    parts += [("✘ ", label, text, "red") for label, text in row.absent]
    parts += [("missed: ", label, row.text[start:end], "yellow") for start, end, label in sorted(wanted.elements())]
    texts = [Text.assemble(mark, f"{visible(label)} ", (shortened(text), style)) for mark, label, text, style in parts]
    return Text(" · ").join(texts) if texts else Text("no entity", style="dim")


def answer_text(row: dict) -> Text:
    """Return an answer for the summary: its text or its entities."""
    entities = entity_row(row)
    if entities:
        return entity_text(entities)
    text = Text(shortened(row["answer"])) if row["answer"].strip() else Text("(empty)", style="dim")
    return text if row["stop"] == "end" else text.append(" (cut at the limit)", style="dim")


def one_prompt(folder: Path, variants: list[str], shipped: str) -> tuple[str, Table] | None:
    """Return title and table of a run's typical prompt and its answers; None without a test record."""
    compared = "base" in variants and shipped != "base"
    scores = read_json(folder / "scores" / f"{shipped}.json")
    baseline = read_json(folder / "scores" / "base.json") if compared else None
    metric = MAIN[scores["answer_kind"]]
    identity, is_median = typical_record(metric, scores, baseline)
    if identity is None:
        return None
    what = "text" if scores["answer_kind"] == "entities" else "prompt"
    median = f"of median difference in {in_a_sentence(METRICS[metric].title)}, {shipped} against base"
    if not compared:
        median = f"of median {in_a_sentence(METRICS[metric].title)}"
    title = f"the test {what} {median}" if is_median else f"the first test {what}"
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True, min_width=9)
    table.add_column()
    shown = [name for name in dict.fromkeys(("base", "adapter", shipped)) if name in variants]
    rows = {}
    for name in shown:
        given = read_jsonl(folder / "answers" / f"{name}.jsonl")
        rows[name] = next(row for row in given if (row["prompt_set"], row["id"]) == ("test", identity))
    table.add_row(what, Text(shortened(asked_text(rows[shipped])), "bold"))
    answers: dict[str, tuple[Text, list[str]]] = {}
    for name, row in rows.items():
        text = answer_text(row)
        answers.setdefault(text.markup, (text, []))[1].append(name)
    for text, names in answers.values():
        table.add_row(Text(", ".join(names), "green" if shipped in names else ""), text)
    return title, table
