"""Format values of metrics."""

from scripts.score.metrics import METRICS


def shown(metric: str, value: float | None, signed: bool = False, unit: bool = True) -> str:
    """Return a metric's value as text: about three digits, with its unit, shares in percent.

    `signed` is for differences: it always shows the sign; differences of shares are in percentage points (pp).
    """
    if value is None:
        return "–"
    entry = METRICS[metric]
    scaled = value * 100 if entry.unit == "%" else value
    name = "pp" if signed and entry.unit == "%" else entry.unit
    return number(scaled, signed) + (f" {name}" if unit and name else "")


def interval_text(metric: str, found: dict, signed: bool = False) -> str:
    """Return an interval as text, without the unit; a missing limit is said in words."""
    low, high = (
        None if found[side] is None else shown(metric, found[side], signed, unit=False) for side in ("low", "high")
    )
    if low is None and high is None:
        return "no interval"
    return f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"


def in_a_sentence(title: str) -> str:
    """Return a metric's title in lower case for a sentence; names such as BLEU or ROUGE-L stay unchanged."""
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def whole(count: int) -> str:
    """Return a count with thin spaces between thousands."""
    return f"{count:,}".replace(",", "\u202f")


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 group` or `12 groups`."""
    return f"{whole(count)} {noun}{'' if count == 1 else 's'}"


def number(value: float, signed: bool = False) -> str:
    """Return a number with about three digits, optionally signed; with a true minus sign, no exponent below 1e6."""
    size = abs(value)
    if size >= 1e6:
        text = f"{size:.2e}"
    else:
        digits = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.1 or size == 0 else 3
        digits += 0.0005 <= size < 0.01  # such as the cost of 1,000 short answers
        text = f"{size:,.{digits}f}".replace(",", "\u202f")
    negative = value < 0 and any(digit in text for digit in "123456789")
    return ("−" if negative else "+" if signed and size else "") + text
