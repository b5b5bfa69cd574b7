"""Hash files in threads beside other work."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scripts.common.checksums import intact, known_sha256
from scripts.common.files import check_manifest, sync


class Hashing:
    """Hashes files in threads while others are written; a process hashes a file once (`known_sha256`).

    The block fails with the UserError of an input that was found to be damaged, whatever else failed.
    """

    def __enter__(self) -> "Hashing":
        self.threads, self.checks, self.files = ThreadPoolExecutor(2), [], []
        return self

    def check(self, manifest: Path) -> None:
        """Check a folder's manifest with all hashes."""
        self.checks.append(self.threads.submit(check_manifest, manifest))

    def check_file(self, path: Path) -> None:
        """Check a file against its checksum file, and record it as an input."""
        self.checks.append(self.threads.submit(intact, path))

    def add(self, path: Path) -> None:
        """Flush a finished file to the disk and hash it for the manifest that is written later."""
        self.files.append(self.threads.submit(lambda: (sync(path), known_sha256(path))))

    def finish(self) -> None:
        """Wait for all; raises the first error."""
        for future in (*self.checks, *self.files):
            future.result()

    def __exit__(self, *error) -> None:
        self.threads.shutdown()
        for future in self.checks:
            future.result()
