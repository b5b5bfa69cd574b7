"""Bundles served by their own serve.sh."""

import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envs import llama_server
from scripts.common.parent_watchdog import die_with_parent

PATIENCE = 60  # seconds until a model is loaded, or a server has ended


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def server(bundle: Path, **env: object) -> Iterator[str]:
    """Serve a bundle, and return `http://127.0.0.1:PORT`, without `/v1`, once the model is loaded.

    The first call on a machine builds llama-server. `env` has more variables of serve.sh, such as PARALLEL. After the
    block the server must still run; SIGTERM stops it, and its status must be 0.
    """
    with process_of(bundle, **env) as (url, process):
        yield url
        assert process.poll() is None, "the server has ended"


@contextmanager
def process_of(bundle: Path, **env: object) -> Iterator[tuple[str, subprocess.Popen]]:
    """Serve a bundle as `server` does, for blocks that may kill the server; return its process as well."""
    assert llama_server.main() == 0
    port = free_port()
    variables = {"LLAMA_SERVER": llama_server.PROGRAM, "PORT": port, **env}
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    with tempfile.TemporaryFile() as log:
        words = ["/bin/sh", str(bundle / "serve.sh")]
        process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=die_with_parent
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_up(f"{url}/health", process)
            yield url, process
            if process.poll() is None:
                process.terminate()
                assert process.wait(PATIENCE) == 0
        except BaseException:
            log.seek(0)
            print(log.read().decode(errors="replace"))
            raise
        finally:
            process.kill()
            process.wait()


def wait_until_up(url: str, process: subprocess.Popen) -> None:
    """Wait until a server answers with status 200."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "the server has ended"
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer in time")
