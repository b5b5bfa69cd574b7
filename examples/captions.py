"""A sports caption in the voice of the loudest fan, by the bundle of config/recipes/captions.yaml."""

import os

from bundle_client import ask

BUNDLE = os.environ.get("BUNDLE", "results/captions/runs/captions/bundle")


def caption(news, bundle=BUNDLE, **options):
    """Return a caption for news, such as `caption("a goalkeeper of 80 saves the penalty of his grandson.")`."""
    return ask(bundle, f"Write a caption: {news}", **options)
