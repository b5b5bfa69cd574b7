"""Deliver a bundle to a model repository of the Hugging Face hub, in one commit.

The repository is private unless `public` is given. The token comes from the environment variable HF_TOKEN only, and is
sent to the hub (HF_ENDPOINT, if that is set) only.
"""

import json
import os
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.files import sha256_of
from scripts.common.offline import is_offline
from scripts.deploy.local_folder import differs
from scripts.deploy.sums import RELEASE
from scripts.deploy.target import HUB

KEPT = {".gitattributes"}  # the hub's own file


def deliver_to_hub(bundle: Path, target: str, files: dict[str, str], facts: dict, public: bool) -> dict:
    """Make a repository hold the files of a bundle and release.json; return the facts of this delivery with `commit`.

    Files of an earlier bundle that this one lacks are deleted in the same commit. Raises UserError without a token,
    for a repository that is public unless `public`, and for what the hub refuses.
    """
    if is_offline():
        raise UserError("'offline: true' forbids a delivery to the hub", target, remedy="deliver to a folder")
    token, repository = os.environ.get("HF_TOKEN"), HUB.fullmatch(target)["repository"]
    if not token:
        raise UserError("needs a token with the right to write", target, remedy="set HF_TOKEN in the environment")
    try:
        from httpx2 import HTTPError  # that of the client
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    except ImportError as error:
        remedy = "run it in .venv, or in the environment 'dataset'"
        raise UserError(f"a delivery to the hub needs the package {error.name}", remedy=remedy) from None
    for name, sha256 in files.items():
        if sha256_of(bundle / name) != sha256:
            raise differs(bundle / name)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        found = api.model_info(repository)
        if not found.private and not public:
            remedy = "make it private in its settings, name another, or allow it with deploy.target.public: true"
            raise UserError("is a public repository", target, remedy=remedy)
        facts |= {"beside": None, "release": None}
        record = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
        changes = [CommitOperationAdd(name, str(bundle / name)) for name in files]
        changes.append(CommitOperationAdd(RELEASE, record.encode()))
        there = {file.rfilename for file in found.siblings or ()}
        changes += [CommitOperationDelete(name) for name in sorted(there - files.keys() - {RELEASE} - KEPT)]
        message = f"Deliver {facts['run']} ({facts['bundle_sha256'][:12]})"
        made = api.create_commit(
            repository, changes, commit_message=message, commit_description=facts["why"], parent_commit=found.sha
        )
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        remedy = "check the network, and that HF_TOKEN may write there; run the same command again to continue"
        raise UserError(f"can't be delivered to: {reason}", target, remedy=remedy) from None
    log.info("%s: %s is the commit %s: %s", target, facts["run"], made.oid, facts["why"])
    return facts | {"release": made.oid, "commit": made.oid}
