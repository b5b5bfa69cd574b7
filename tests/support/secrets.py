"""Secrets that tests plant in the environment, and the search for any trace of them in files."""

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

PLANTED = {
    "HF_TOKEN": "hf_PlantedHubTokenPlantedHubToken01",
    "HUGGING_FACE_HUB_TOKEN": "hf_PlantedOldHubTokenPlantedHub02",
    "WANDB_API_KEY": "cafe0123456789abcdefcafe0123456789abcd03",
    "MLFLOW_TRACKING_PASSWORD": "planted/mlflow password&05",
    "MLFLOW_TRACKING_TOKEN": "planted-mlflow-token-06",
    "COMET_API_KEY": "plantedCometKeyPlantedCometKey07",
    "TRACKIO_TOKEN": "planted-trackio-token-08",
    "AWS_ACCESS_KEY_ID": "AKIAPLANTEDPLANTED09",
    "AWS_SECRET_ACCESS_KEY": "planted+aws/secret+key/planted+aws/secr10",
    "GITHUB_TOKEN": "ghp_PlantedGitHubTokenPlantedGitHub11",
    "OPENAI_API_KEY": "sk-PlantedKeyPlantedKeyPlantedKey12",
}


def forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it may stand in a file: plain, quoted for an address, in hex, in base64 wherever it begins."""
    plain = secret.encode()
    yield from {plain, quote(secret, safe="").encode(), quote_plus(secret).encode(), plain.hex().encode()}
    for start in range(3):
        # What neighbours have a part in is cut off: 3 bytes are 4 signs.
        encoded = base64.b64encode(b"\0" * start + plain)
        inside = encoded[-(-start * 8 // 6) : len(encoded) - 4]
        yield inside
        yield inside.replace(b"+", b"-").replace(b"/", b"_")


def content_of(path: Path) -> bytes:
    """Return a file's bytes, unpacked where it is packed."""
    content = path.read_bytes()
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def traces(*folders: Path, secrets: dict[str, str] | None = None) -> list[str]:
    """Return the files below these folders, hidden ones too, whose name or content has one of the secrets."""
    wanted = {name: [*forms(secret)] for name, secret in (secrets or PLANTED).items()}
    found = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        content = content_of(path) if path.is_file() else b""
        for name, looks in wanted.items():
            if any(look in content or look in path.name.encode() for look in looks):
                found.append(f"{path}: {name}")
    return found
