"""A training that diverged: its loss, or its weights, are no longer finite numbers."""

REMEDY = "lower training.learning_rate, or train in bf16 or fp32"


class DivergedError(Exception):
    """The training diverged at a step; the weights after step `unsound` are the first that are known to be at fault."""

    def __init__(self, what: str, step: int, unsound: int):
        super().__init__(f"its {what} no longer finite")
        self.step, self.unsound = step, unsound


def diverged_note(facts: dict) -> str | None:
    """Return a sentence on a training that diverged, without its full stop; None for other trainings.

    `facts` is the content of training.json; that of an earlier version has no such key.
    """
    found = facts.get("diverged")
    if not found:
        return None
    kept = f"that of step {found['kept_step']}" if found["kept_step"] else "untrained, because no checkpoint was usable"
    return f"the training diverged at step {found['step']}: {found['reason']}; the model is {kept}"
