"""SIGTERM ends a training: at once outside the training loop, else after a checkpoint is written.

Ctrl-C has the same effect, and so has SIGURG, with which profiles/slurm warns of a time limit: programs without a
handler, such as the one that mounts a container's image, ignore it, whereas SIGTERM would end them.
"""

import signal

from scripts.common.errors import UserError

SIGNALS = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C", signal.SIGURG: "the warning of a time limit"}


class StopOnTerm:
    """Handles the signals; `asked` is true after one arrived, `reason` says which. Further signals are ignored.

    Outside the training loop (`at_once`) the signal raises an error. The loop reads `asked`, and saves a checkpoint.
    """

    def __init__(self):
        self.asked, self.at_once, self.reason = False, True, SIGNALS[signal.SIGTERM]
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self.request)

    def request(self, number: int, *_) -> None:
        """Record the signal; raises UserError outside the training loop."""
        if self.asked:
            return
        self.asked, self.reason = True, SIGNALS[number]
        if self.at_once:
            raise UserError(f"stopped by {self.reason} outside the training loop", remedy="run again")

    def error(self, step: int, steps: int) -> UserError:
        """Return the error that ends a training whose checkpoint is written."""
        kept = "the checkpoint is kept; run again to continue" if step else "run again"
        return UserError(f"stopped by {self.reason} after step {step} of {steps}", remedy=kept)
