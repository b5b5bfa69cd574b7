"""SIGTERM ends a training: at once while nothing would be lost, else at the next place from which it can go on."""

import signal

from scripts.common.errors import UserError


class StoppedAtOnceError(UserError):
    """SIGTERM came while there was nothing to save."""


class StopOnTerm:
    """Takes SIGTERM from now on; `asked` says that it came.

    Outside the training loop (`at_once`) it ends whatever is going on, as nothing is lost but time; inside the loop
    the loop looks at `asked`, saves a checkpoint, and raises what `error` returns. Another SIGTERM changes nothing.
    """

    def __init__(self):
        self.asked, self.at_once = False, True
        signal.signal(signal.SIGTERM, self.request)

    def request(self, *_) -> None:
        """Remember the signal; raises UserError where the work can end at once."""
        if self.asked:
            return
        self.asked = True
        if self.at_once:
            raise StoppedAtOnceError("stopped by SIGTERM outside the training loop", remedy="run again to go on")

    def error(self, step: int, steps: int) -> UserError:
        """Return the error that ends a training whose checkpoint is written."""
        kept = "the checkpoint is kept; run again to go on" if step else "run again"
        return UserError(f"stopped by SIGTERM after step {step} of {steps}", remedy=kept)
