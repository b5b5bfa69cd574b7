"""A child process of a step ends with the step, however early the step ends."""

import os
import signal
import subprocess
import sys
import time

from tests.support.process_tree import is_gone, wait_until_gone

# With `waits`, the child asks the kernel to kill it with its parent only after the parent has ended.
PROGRAM = """
import os, subprocess, time
from scripts.common.parent_watchdog import die_with_parent

def late():
    parent = os.getppid()
    os.write(1, b"%d\\n" % os.getpid())
    while {waits} and os.getppid() == parent:
        time.sleep(0.01)
    die_with_parent()

subprocess.run(["sleep", "60"], preexec_fn=late)
"""


def test_a_child_ends_with_its_parent_and_also_if_that_ended_before():
    for waits in (False, True):
        program = [sys.executable, "-c", PROGRAM.format(waits=waits)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
            child = int(process.stdout.readline())
            time.sleep(0.3)
            assert not is_gone(child)
            os.kill(process.pid, signal.SIGKILL)
            wait_until_gone([child], 10)
