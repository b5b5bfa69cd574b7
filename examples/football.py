"""Live commentary of a football match in French, by the bundle of config/recipes/football.yaml."""

import os

from bundle_client import ask, recorded

BUNDLE = os.environ.get("BUNDLE", "results/football/runs/football/bundle")


def comment(minute, event, match=None, bundle=BUNDLE, **options):
    """Return the commentary on an event, such as `comment("45'+2", "goal", "as-valmont-fc-rives")`.

    `event` is an event type of the raw data (`goal`) or its label (`But`). Raises ValueError for another one. `options`
    are those of `ask`.
    """
    labels = recorded(bundle)["dataset"]["label_map"]
    label = labels.get(event, event)
    if label not in labels.values():
        raise ValueError(f"event is {event!r}; the model knows {', '.join(labels)}")
    minute = f"{minute}'" if "'" not in str(minute) else minute
    return ask(bundle, f"Minute {minute}. Événement : {label}." + (f" Match : {match}." if match else ""), **options)
