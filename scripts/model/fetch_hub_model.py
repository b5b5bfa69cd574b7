"""Download a pinned model from the Hugging Face hub: safetensors only; an interrupted download resumes.

python scripts/model/fetch_hub_model.py --name mistral --folder results/models/mistral \
    --settings '{"hub": {"id": "org/name", "revision": "<40 hex digits>"}, ...}'

With `offline: true` (SNAKETUNE_OFFLINE in the environment) the model comes from the local hub cache. A token for a
gated model comes from the environment variable HF_TOKEN and is not stored.
"""

import os
import shutil
import sys
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.offline import is_offline
from scripts.common.snapshot_from_cache import snapshot_from_cache
from scripts.model.link_local_model import link_local_model
from scripts.model.model_files import NOT_NEEDED, wanted_patterns
from scripts.model.model_folder import finish_model_folder, import_main


def fetch_hub_model(folder: Path, name: str, settings: dict, chat_template: Path | None = None) -> None:
    """Download the snapshot and write its manifest, or, offline, link the snapshot in the hub's cache.

    Raises UserError if the download fails, or the cache lacks a file. The download goes to a folder named by the
    revision, so that a later run resumes it, and then replaces `folder`.
    """
    hub, patterns = settings["hub"], (wanted_patterns(settings["trust_remote_code"]), list(NOT_NEEDED))
    if is_offline():
        snapshot = snapshot_from_cache("model", hub["id"], hub["revision"], patterns)
        link_local_model(Path(snapshot), folder, name, settings, chat_template, hub)
        return
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    beside = folder.with_name(f".{folder.name}.{hub['revision'][:12]}.download")
    try:
        revision, (wanted, unwanted) = hub["revision"], patterns
        snapshot_download(
            hub["id"], revision=revision, local_dir=beside, allow_patterns=wanted, ignore_patterns=unwanted
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model '{hub['id']}' at {hub['revision'][:12]} can't be downloaded: {reason}",
            remedy="check network, HF_TOKEN and the model's access conditions; the next run continues the download",
        ) from None
    shutil.rmtree(beside / ".cache", ignore_errors=True)
    log.info("downloaded %s at %s", hub["id"], hub["revision"])
    facts = {"name": name, "source": "hub", "id": hub["id"], "revision": hub["revision"]}
    finish_model_folder(beside, settings, chat_template, **facts)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(beside, folder)


main = import_main(fetch_hub_model, __doc__.splitlines()[0])

if __name__ == "__main__":
    sys.exit(main())
