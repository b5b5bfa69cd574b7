"""Notes on a training for the report."""

from itertools import pairwise

RAN_OUT = ("out of memory", "killed when the machine ran out of memory")  # as scripts/train/oom_retry.py writes it


def training_notes(facts: dict) -> list[str]:
    """Return a sentence for each time the training ran out of memory; `facts` is the content of training.json."""
    tries = facts.get("tries", [])
    notes = []
    for entry, after in pairwise(tries):
        if entry["ended"] in RAN_OUT and entry["micro_batch"] != after["micro_batch"]:
            batch = after["micro_batch"] * after["accumulation"] * facts.get("processes", 1)
            notes.append(
                f"Out of memory with a micro-batch of {entry['micro_batch']}; the training continued with "
                f"{after['micro_batch']}, accumulated {after['accumulation']} times: each step still has {batch} rows."
            )
    return notes
