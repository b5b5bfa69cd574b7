"""RO-Crates, judged by the validator of their own community, in an environment of its own and without a network.

The validator would fetch the JSON-LD context of RO-Crate 1.1. Here its cache holds one of exactly the terms that our
crates use, so that a term that is written wrong is found as well.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("rocrate_validator.txt")
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "workflow-run-crate-0.5"
SCHEMA = (
    "Collection", "CompletedActionStatus", "ComputerLanguage", "CreateAction", "CreativeWork", "Dataset",
    "Organization", "PropertyValue", "SoftwareSourceCode", "about", "actionStatus", "additionalType", "agent",
    "author", "contentSize", "datePublished", "description", "encodingFormat", "endTime", "exampleOfWork",
    "hasPart", "identifier", "instrument", "license", "mainEntity", "mentions", "name", "object",
    "programmingLanguage", "publisher", "result", "startTime", "url", "value", "version", "workExample",
)  # fmt: skip
TERMS = {name: f"http://schema.org/{name}" for name in SCHEMA} | {
    "File": "http://schema.org/MediaObject",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}
FILL_CACHE = """
import io, sys
import requests, requests_cache
from urllib3 import HTTPResponse

url, content, cache = sys.argv[1:]
body = HTTPResponse(
    io.BytesIO(content.encode()), {"Content-Type": "application/ld+json"}, status=200, preload_content=False
)
request = requests.Request("GET", url).prepare()
session = requests_cache.CachedSession(cache, backend="sqlite", expire_after=-1)
session.cache.save_response(requests.adapters.HTTPAdapter().build_response(request, body))
"""


class CrateValidator:
    """The validator in a folder that is made once."""

    def __init__(self, folder: Path):
        self.folder = folder / hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
        self.bin = self.folder / "venv" / "bin"
        if not (self.folder / "complete").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", self.folder / "venv"], check=True)
            install = [self.bin / "python", "-m", "pip", "install", "--quiet", "--require-hashes"]
            subprocess.run([*install, "--only-binary", ":all:", "-r", REQUIREMENTS], check=True)
            (self.folder / "complete").touch()

    def issues(self, crate: Path, scratch: Path, severity: str = "required") -> list[str]:
        """Return what the validator finds in a crate's folder, `required` only or what is `recommended` too."""
        cache, report = scratch / "http", scratch / "report.json"
        content = json.dumps({"@context": TERMS})
        subprocess.run([self.bin / "python", "-c", FILL_CACHE, CONTEXT, content, cache], check=True)
        command = [self.bin / "rocrate-validator", "--no-interactive", "--disable-color", "validate", "--offline"]
        command += ["--cache-path", cache, "--profile-identifier", PROFILE, "--requirement-severity", severity]
        command += ["--output-format", "json", "--output-file", report, "--no-paging", crate]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert report.exists(), done.stdout
        found = json.loads(report.read_text(encoding="utf-8"))
        assert found["passed"] == (not found["issues"])
        return [f"{issue['check']['identifier']}: {issue['message']}" for issue in found["issues"]]


def unknown_terms(crate: Path) -> set[str]:
    """Return the types and properties of a crate that neither RO-Crate 1.1 nor the crate itself explains."""
    content = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    _, own = content["@context"]
    used = set()
    for entity in content["@graph"]:
        kinds = entity["@type"] if isinstance(entity["@type"], list) else [entity["@type"]]
        used |= {*kinds, *(key for key in entity if not key.startswith("@"))}
    return used - TERMS.keys() - own.keys()


def workflow_files() -> list[str]:
    """Return the names of the workflow's copy in a bundle."""
    return ["workflow/Snakefile", *(f"workflow/rules/{path.name}" for path in sorted((ROOT / "rules").glob("*.smk")))]
