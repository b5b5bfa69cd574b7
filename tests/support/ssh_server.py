"""A real sshd on loopback, as an ordinary process with its own keys, behind a relay that can cut a connection off."""

import os
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.support.needs import need

INSTALLER = "tests/system/install_sshd.sh"


class Relay(socketserver.ThreadingTCPServer):
    """Passes connections on to a port; `cut_after` ends one after so many bytes to the server, once.

    `open` has those that the client has not closed.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self, port: int):
        self.port, self.cut_after, self.open = port, None, set()
        super().__init__(("127.0.0.1", 0), Connection)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Connection(socketserver.BaseRequestHandler):
    def setup(self) -> None:
        self.server.open.add(self)

    def finish(self) -> None:
        self.server.open.remove(self)

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port)) as server:
            for end in (server, self.request):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pass_on, args=(server, self.request), daemon=True).start()
            self.pass_on(self.request, server, is_sent=True)

    def pass_on(self, source: socket.socket, target: socket.socket, is_sent: bool = False) -> None:
        """Copy bytes until either end closes, then close both."""
        count = 0
        with suppress(OSError):
            while content := source.recv(65536):
                target.sendall(content)
                count += len(content)
                if is_sent and self.server.cut_after and count > self.server.cut_after:
                    self.server.cut_after = None
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class SshServer:
    """sshd with a host key, an account key and a client's configuration in a folder.

    `programs` is a folder for PATH, whose `ssh` reads that configuration in place of the user's.
    """

    def __init__(self, folder: Path):
        found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")  # it wants to be started by its whole path
        sshd, ssh = found or need("sshd", INSTALLER), need("ssh", INSTALLER)
        need("rsync", INSTALLER)
        self.folder, self.programs = folder, folder / "programs"
        self.programs.mkdir(parents=True)
        for name in ("host", "other", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(command, check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\nPidFile none\n"
        )
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # sshd's own, which its package's service makes
        command = [sshd, "-D", "-E", folder / "sshd.log", "-f", folder / "sshd_config"]
        self.process = subprocess.Popen(command)
        self.relay = Relay(port)
        self.address = f"127.0.0.1:{self.relay.server_address[1]}"
        # A careless configuration of the user, which a delivery does not follow.
        (folder / "ssh_config").write_text(
            f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
            f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            f"  ControlMaster auto\n  ControlPath {folder}/shared\n  ControlPersist yes\n"
        )
        (self.programs / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh_config "$@"\n')
        (self.programs / "ssh").chmod(0o755)
        self.know("host")
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((folder / "sshd.log").read_text())

    def know(self, key: str | None) -> None:
        """Let the client know a key as that of the host, or none."""
        host, _, port = self.address.partition(":")
        line = f"[{host}]:{port} {(self.folder / f'{key}.pub').read_text()}" if key else ""
        (self.folder / "known_hosts").write_text(line)

    def close(self) -> None:
        """End the server."""
        self.relay.shutdown()
        self.relay.server_close()
        self.process.terminate()
        self.process.wait()
