"""Programs that some tests need beside the environment; CI installs them all and may skip nothing for want of them."""

import os
import shutil

import pytest

MUST_RUN = "SNAKETUNE_TESTS_MUST_RUN"


def need(program: str, installer: str) -> str:
    """Return where a program is; without it the test is skipped, and fails where SNAKETUNE_TESTS_MUST_RUN is set.

    `installer` is the command that installs it, for the message.
    """
    found = shutil.which(program)
    if found:
        return found
    reason = f"{program} is not installed here; {installer} installs it"
    if os.environ.get(MUST_RUN):
        pytest.fail(reason)
    pytest.skip(reason)
