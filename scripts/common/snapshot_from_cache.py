"""Find hub models and datasets in the local hub cache, for machines without a network."""

from scripts.common.errors import UserError
from scripts.common.offline import PAGE


def snapshot_from_cache(kind: str, repository: str, revision: str, patterns=(None, None)) -> str:
    """Return the folder of a hub repository at one commit in the local cache, without using the network.

    `kind` is "model" or "dataset"; `patterns` are those of the wanted and of the unwanted files. Raises UserError, with
    the command that downloads the repository, if it is missing or incomplete.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import LocalEntryNotFoundError

    options = dict(zip(("allow_patterns", "ignore_patterns"), patterns, strict=True))
    try:
        return snapshot_download(repository, repo_type=kind, revision=revision, local_files_only=True, **options)
    except (LocalEntryNotFoundError, OSError) as error:
        state = "incomplete" if type(error).__name__ == "IncompleteSnapshotError" else "missing"
        raise UserError(
            f"{kind} '{repository}' at {revision[:12]} is {state} in the hub cache {HF_HUB_CACHE}, and 'offline: true' "
            "forbids the download",
            remedy=f"where there is a network: hf download {repository} --repo-type {kind} --revision {revision}; "
            f"copy that cache to this machine and set HF_HUB_CACHE to its path ({PAGE})",
        ) from None
