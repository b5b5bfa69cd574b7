"""Serve the page on which people review data and answers, and judge them.

    python scripts/review/serve.py results data/other.jsonl --folder review --port 8765

The paths are results folders and JSONL files. SNAKETUNE_REVIEW_PASSWORD is the password of the page, which another
address than that of this machine for itself needs.
"""

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from scripts.common.errors import UserError
from scripts.review.app import create_app

PASSWORD = "SNAKETUNE_REVIEW_PASSWORD"  # noqa: S105 (the name of the variable)
PATIENCE = 2  # seconds that open requests have at the end


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UserError if the port is in use or the address is not this machine's."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = os.strerror(error.errno) if (getattr(error, "errno", None) or 0) > 0 else error
        remedy = "give another --port or --host, or end the program that uses it"
        raise UserError(f"can't listen on {host}:{port}: {reason}", remedy=remedy) from None


def serve(arguments: argparse.Namespace) -> None:
    """Open everything, and serve it until Ctrl-C."""
    with listening(arguments.host, arguments.port) as server:
        port = server.getsockname()[1]
        app = create_app(arguments.paths, arguments.folder, host=arguments.host, password=os.environ.get(PASSWORD))
        name = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        print(f"review: http://{name}:{port}/ (Ctrl-C ends it)", flush=True)
        quiet = {"log_level": "warning", "server_header": False, "proxy_headers": False}
        uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=PATIENCE, **quiet)).run(sockets=[server])


def main(argv=None) -> int:
    """Serve; return 1, with one line, if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="*", default=[Path("results")], help="results folders, JSONL files")
    parser.add_argument("--folder", type=Path, default=Path("review"), help="folder of the judgements")
    parser.add_argument("--host", default="127.0.0.1", help=f"address; any but loopback needs {PASSWORD}")
    parser.add_argument("--port", type=int, default=8765, help="port; 0: any that is free")
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the folder of indexes is deleted then, too
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        serve(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
