"""Texts without personal data, by the bundle of config/recipes/pii.yaml; needs torch and transformers, no server."""

import os
import runpy
from functools import lru_cache
from pathlib import Path

BUNDLE = os.environ.get("BUNDLE", "results/pii/runs/pii/bundle")


@lru_cache
def loaded(bundle):
    """Return the classifier of a bundle, and the function that puts labels into a text. A new one needs a restart."""
    program = runpy.run_path(f"{bundle}/example_classify.py")
    return program["Classifier"](Path(bundle, "model")), program["redacted"]


def redact(text, bundle=BUNDLE):
    """Return a text in which [LABEL], such as [PERSON], is in place of each piece of personal data that is found."""
    classifier, redacted = loaded(bundle)
    return redacted(text, classifier.entities(text))
