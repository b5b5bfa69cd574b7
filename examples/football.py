"""Live commentary of a football match in French, by the bundle of config/recipes/football.yaml."""

import os
import re

from bundle_client import ask, recorded

BUNDLE = os.environ.get("BUNDLE", "results/football/runs/football/bundle")


def comment(minute, event, match=None, bundle=BUNDLE, **options):
    """Return the commentary on an event, such as `comment("45'+2", "goal", "as-valmont-fc-rives")`.

    `minute` is a number, or has added time in any of the usual forms (45'+2, 45+2, 45+2'). `event` is an event type of
    the raw data (`goal`) or its label (`But`). Raises ValueError for others. `options` are those of `ask`.
    """
    labels = recorded(bundle)["dataset"]["label_map"]
    label = labels.get(event, event)
    if label not in labels.values():
        raise ValueError(f"event is {event!r}; label_map has {', '.join(labels)}; for other labels use `ask`")
    if not (numbers := re.findall(r"\d+", str(minute))):
        raise ValueError(f"minute is {minute!r}; give a number")
    minute = f"{numbers[0]}'" + "".join(f"+{added}" for added in numbers[1:])
    return ask(bundle, f"Minute {minute}. Événement : {label}." + (f" Match : {match}." if match else ""), **options)
