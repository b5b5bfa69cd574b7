"""Targets of a delivery: a folder of this machine, a folder of an SSH host, or a repository of the hub."""

import re

SSH = re.compile(
    r"ssh://(?P<login>(?:[A-Za-z0-9_][\w.-]*@)?(?:[A-Za-z0-9][\w.-]*|\[[0-9A-Fa-f:.]+\]))"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<folder>/[^/\x00-\x1f][^\x00-\x1f]*)",
    re.ASCII,
)
HUB = re.compile(r"hf://(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)", re.ASCII)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
SCP = re.compile(r"[\w.@-]+:")
REASON = r"\S\s+\S"  # a written reason has at least two words


def target_fault(target: str) -> str | None:
    """Return why a target can't be used; None for one that can."""
    if SSH.fullmatch(target) or HUB.fullmatch(target):
        return None
    if target.startswith("~"):
        return "begins with '~', which is not replaced: write the whole path"
    if not SCHEME.match(target):
        return "has the form of scp: write ssh://[user@]host[:port]/absolute/folder" if SCP.match(target) else None
    if target.startswith("ssh://"):
        return "is not ssh://[user@]host[:port]/absolute/folder"
    if target.startswith("hf://"):
        return "is not hf://owner/name"
    return "is of no known kind: name a folder, ssh://[user@]host[:port]/absolute/folder, or hf://owner/name"
