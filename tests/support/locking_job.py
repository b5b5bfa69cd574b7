"""A job that takes GPUs and watches that nobody else has them: `python tests/support/locking_job.py COUNT SECONDS`.

Each GPU is an address of a socket without a file, which the kernel gives to one process only. It prints the GPUs that
it has, then waits; whoever finds an address in use exits with SHARED.
"""

import os
import socket
import sys
import time

SHARED = 3


def main() -> int:
    """Take the GPUs, bind their addresses, and wait."""
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    # Opened before the lock is: a killed process closes in this order, so an address is free before its GPU is.
    sockets = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    from scripts.common.gpu_locks import lock_folder, take_devices

    names = take_devices(count)
    for opened, name in zip(sockets, names, strict=True):
        try:
            opened.bind(f"\0{lock_folder(os.environ)}/{name}")
        except OSError:
            return SHARED
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    time.sleep(seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
