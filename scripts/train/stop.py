"""SIGTERM ends a training: at once while nothing would be lost, else at the next place from which it can go on.

Ctrl-C means the same, and so does SIGURG, by which profiles/slurm warns of a time limit: whoever does not listen to it
ignores it, as the programs do that hold a container's image in place; SIGTERM would end those.
"""

import signal

from scripts.common.errors import UserError

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C", signal.SIGURG: "the warning of a time limit"}


class StoppedAtOnceError(UserError):
    """The signal came while there was nothing to save."""


class StopOnTerm:
    """Takes the signals from now on; `asked` says that one came, `reason` which.

    Outside the training loop (`at_once`) it ends whatever is going on, as nothing is lost but time; inside the loop
    the loop looks at `asked`, saves a checkpoint, and raises what `error` returns. Another signal changes nothing.
    """

    def __init__(self):
        self.asked, self.at_once, self.reason = False, True, SIGNALS[signal.SIGTERM]
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.request)

    def request(self, number: int, *_) -> None:
        """Remember the signal; raises UserError where the work can end at once."""
        if self.asked:
            return
        self.asked, self.reason = True, SIGNALS[number]
        if self.at_once:
            raise StoppedAtOnceError(f"stopped by {self.reason} outside the training loop", remedy="run again to go on")

    def error(self, step: int, steps: int) -> UserError:
        """Return the error that ends a training whose checkpoint is written."""
        kept = "the checkpoint is kept; run again to go on" if step else "run again"
        return UserError(f"stopped by {self.reason} after step {step} of {steps}", remedy=kept)
