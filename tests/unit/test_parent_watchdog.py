"""A child process of a step ends with the step, however early the step ends."""

import os
import signal
import subprocess
import sys
import time

from tests.support.process_tree import is_gone, wait_until_gone
from tests.support.project import ROOT


def test_a_child_ends_with_its_parent_and_also_if_that_ended_before():
    for words in ([], ["late"]):
        program = [sys.executable, "-m", "tests.support.watched_child", *words]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            child = int(process.stdout.readline())
            time.sleep(0.3)
            assert not is_gone(child)
            os.kill(process.pid, signal.SIGKILL)
            wait_until_gone([child])
