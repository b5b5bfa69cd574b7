"""A process with a child that ends with it: python -m tests.support.watched_child [late].

With `late` the child asks the kernel to kill it with its parent only after the parent has ended.
"""

import os
import subprocess
import sys
import time

from scripts.common.parent_watchdog import die_with_parent

parent = os.getpid()


def begin() -> None:
    os.write(1, b"%d\n" % os.getpid())
    while sys.argv[1:] and os.getppid() == parent:
        time.sleep(0.01)
    die_with_parent()


subprocess.run(["sleep", "60"], preexec_fn=begin, check=False)
