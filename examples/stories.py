"""A short story in Vietnamese for a card of a game, by the bundle of config/recipes/stories.yaml."""

import os

from bundle_client import ask

BUNDLE = os.environ.get("BUNDLE", "results/stories/runs/stories/bundle")


def generate_story(card, bundle=BUNDLE, **options):
    """Return a story for a card, a dict with `name`, `type` ("Bảo vệ", "Cộng đồng" or "Thảm họa") and `effect`."""
    return ask(bundle, f"Lá bài: {card['name']}\nLoại: {card['type']}\nHiệu ứng: {card['effect']}", **options)
