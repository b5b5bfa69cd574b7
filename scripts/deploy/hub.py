"""Deliver a bundle to a model repository of the Hugging Face hub, in one commit.

The repository is private unless `public` is given. The token comes from the environment variable HF_TOKEN only, and is
sent to the hub (HF_ENDPOINT, if that is set) only.
"""

import json
import os
import re
from pathlib import Path

from scripts.common.cli import log
from scripts.common.errors import UserError
from scripts.common.offline import is_offline
from scripts.deploy.local_folder import differs
from scripts.deploy.sums import RELEASE
from scripts.deploy.target import HUB

KEPT = {".gitattributes"}  # the hub's own file


def deliver_to_hub(bundle: Path, target: str, files: dict[str, str], facts: dict, public: bool) -> dict:
    """Make a repository hold the files of a bundle and release.json; return the facts of this delivery.

    Files of an earlier bundle that this one lacks are deleted in the same commit, which is the `release`. Raises
    UserError without a token, for a repository that is public unless `public`, and for what the hub refuses.
    """
    if is_offline():
        raise UserError("'offline: true' forbids a delivery to the hub", target, remedy="deliver to a folder")
    token, repository = os.environ.get("HF_TOKEN", "").strip(), HUB.fullmatch(target)["repository"]
    if not re.fullmatch("[!-~]+", token):  # the client's error for an illegal header shows it
        remedy = "set HF_TOKEN in the environment, to one line"
        raise UserError("needs a token with the right to write", target, remedy=remedy)
    try:
        from httpx2 import HTTPError  # that of the client
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    except ImportError as error:
        remedy = "run it in .venv, or in the environment 'dataset'"
        raise UserError(f"a delivery to the hub needs the package {error.name}", remedy=remedy) from None
    changes = [CommitOperationAdd(name, str(bundle / name)) for name in files]
    for change in changes:
        if change.upload_info.sha256.hex() != files[change.path_in_repo]:
            raise differs(bundle / change.path_in_repo)
    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        found = api.model_info(repository)
        if not found.private and not public:
            remedy = "make it private in its settings, name another, or allow it with deploy.target.public: true"
            raise UserError("is a public repository", target, remedy=remedy)
        facts |= {"beside": None, "release": None}
        record = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
        changes.append(CommitOperationAdd(RELEASE, record.encode()))
        there = {file.rfilename for file in found.siblings or ()}
        changes += [CommitOperationDelete(name) for name in sorted(there - files.keys() - {RELEASE} - KEPT)]
        message = f"Deliver {facts['run']} ({facts['bundle_sha256'][:12]})"
        made = api.create_commit(
            repository, changes, commit_message=message, commit_description=facts["why"], parent_commit=found.sha
        )
    except (HTTPError, OSError, RuntimeError, ValueError) as error:
        # The client wraps what ends an upload, and addresses for uploads carry a signature.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        reason = re.sub(r"\?[^\s']*", "", (str(cause).strip() or type(cause).__name__).splitlines()[0]).rstrip(".")
        remedy = "check the network, and that HF_TOKEN may write there; run the same command again to continue"
        raise UserError(f"can't be delivered to: {reason}", target, remedy=remedy) from None
    log.info("%s: %s is the commit %s: %s", target, facts["run"], made.oid, facts["why"])
    return facts | {"release": made.oid}
