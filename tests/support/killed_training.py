"""A training that is killed in its first attempt: python -m tests.support.killed_training CHECKPOINTS."""

import os
import signal
import sys
from pathlib import Path

from scripts.train.oom_retry import RetryLog

log = RetryLog(Path(sys.argv[1]), "run", {"micro_batch": 8, "accumulation": 2, "processes": 1, "nodes": 1})
log.begin(log.attempt())
os.kill(os.getpid(), signal.SIGKILL)
