"""Describe the bundle as a Workflow Run RO-Crate: ro-crate-metadata.json lists the workflow, its inputs and outputs.

Source: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profiles Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5), Process Run Crate 0.5 and Workflow RO-Crate 1.0. They require the workflow in
the crate, so the bundle's folder `workflow` has a copy.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.common.files import sha256_of, write_json
from scripts.score.stand_in import is_stand_in

FILE = "ro-crate-metadata.json"
MAIN = "workflow/Snakefile"
# RO-Crate 1.1 has no term for a hash; schema.org has.
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", {"sha256": "http://schema.org/sha256"}]
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    f"{WORKFLOW_CRATE}/1.0": "Workflow RO-Crate",
}
BIOSCHEMAS = "https://bioschemas.org/profiles/{}/1.0-RELEASE"
MEDIA_TYPES = {
    ".json": "application/json", ".md": "text/markdown", ".py": "text/x-python", ".jinja": "text/plain",
    ".smk": "text/plain", ".sh": "application/x-sh", ".service": "text/plain", "Containerfile": "text/plain",
    "Modelfile": "text/plain", "Snakefile": "text/plain",
}  # fmt: skip
SECTIONS = ("run", "model", "dataset", "project", "gates", "redaction")
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*-[A-Za-z0-9.+-]*|MIT|ISC|Zlib")


def write_crate(folder: Path, project: Path, record: dict, main_file: str, license_id: str, ended: str) -> None:
    """Copy the workflow into a bundle's folder and describe every file; `record` is the run's provenance."""
    for path in (project / "Snakefile", *sorted((project / "rules").glob("*.smk"))):
        target = folder / "workflow" / path.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    graph = graph_of(folder, project, record, main_file, license_id, ended)
    write_json(folder / FILE, {"@context": CONTEXT, "@graph": graph})


def entity(identifier: str, kind: str, /, **properties: Any) -> dict:
    """Return an entity; properties that are None or empty are left out, and a list of one is its item."""
    known = {key: value for key, value in properties.items() if value not in (None, [])}
    single = {key: value[0] for key, value in known.items() if isinstance(value, list) and len(value) == 1}
    return {"@id": identifier, "@type": kind, **known, **single}


def to(identifier: str) -> dict:
    """Return a reference to an entity."""
    return {"@id": identifier}


def graph_of(folder: Path, project: Path, record: dict, main_file: str, license_id: str, ended: str) -> list[dict]:
    """Return the entities of ro-crate-metadata.json; deterministic for bundle and run."""
    lock = (project / "envs" / "workflow.lock").read_text(encoding="utf-8")
    sections, code = record["config"]["sections"], record["code"]
    description = sections["run"]["deploy"]["description"] or f"The results of the run {record['run']} for deployment."
    organization, url = sections["project"]["organization"], sections["project"]["url"]
    agent = to("#organization") if organization else None
    licence = f"https://spdx.org/licenses/{license_id}" if SPDX.fullmatch(license_id) else "#license"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {(name := path.relative_to(folder).as_posix()): file_entity(name, path) for path in paths}
    inputs, parts = inputs_of(record)
    parameters = [parameter(value["@id"][1:], value) for value in inputs]
    output = parameter("made-model", files[main_file])
    files["README.md"]["about"] = to("./")
    files[MAIN] |= {
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"], "name": "snaketune",
        "version": code["commit"] or code["sha256"], "programmingLanguage": to(f"{WORKFLOW_CRATE}#snakemake"),
        "conformsTo": to(BIOSCHEMAS.format("ComputationalWorkflow")),
        "input": [to(value["@id"]) for value in parameters], "output": to(output["@id"]),
    }  # fmt: skip
    return [
        entity("./", "Dataset", name=record["run"] if "/" in main_file else main_file, description=description,
               datePublished=ended, license=to(licence), conformsTo=[to(profile) for profile in PROFILES],
               hasPart=[to(file["@id"]) for file in files.values()], mainEntity=to(MAIN),
               mentions=[to("#run"), *(to(value["@id"]) for value in inputs if value["@type"] == "Collection")],
               author=agent, publisher=agent),
        entity(FILE, "CreativeWork", about=to("./"),
               conformsTo=[to("https://w3id.org/ro/crate/1.1"), to(f"{WORKFLOW_CRATE}/1.0")]),
        entity("#run", "CreateAction", name=f"Run {record['run']} of snaketune",
               description="From raw data to a fine-tuned, merged, quantized and scored model.",
               startTime=record["training"].get("started"), endTime=ended, agent=agent,
               actionStatus="http://schema.org/CompletedActionStatus", instrument=to(MAIN),
               object=[to(value["@id"]) for value in inputs],
               result=[to(file["@id"]) for name, file in files.items() if not name.startswith("workflow/")]),
        entity(f"{WORKFLOW_CRATE}#snakemake", "ComputerLanguage", name="Snakemake",
               version=re.search(r"^snakemake==(\S+)", lock, re.MULTILINE)[1],
               identifier=to("https://doi.org/10.1093/bioinformatics/bts480"),
               url=to("https://snakemake.readthedocs.io")),
        entity(licence, "CreativeWork", name=license_id),
        *(entity(profile, "CreativeWork", name=name) for profile, name in PROFILES.items()),
        *([entity("#organization", "Organization", name=organization, url=url)] if organization else []),
        *(*files.values(), *parts, *inputs, *parameters, output),
    ]  # fmt: skip


def file_entity(name: str, path: Path) -> dict:
    """Return a file of the bundle, with its size and hash."""
    kind = MEDIA_TYPES.get(path.suffix or path.name, "application/octet-stream")
    size, sha256 = str(path.stat().st_size), sha256_of(path)
    return entity(quote(name), "File", name=name, contentSize=size, sha256=sha256, encodingFormat=kind)


def parameter(name: str, example: dict) -> dict:
    """Return an input or output of the workflow; `example` is its value in this run, which gets a reference to it."""
    kind = "Text" if example["@type"] == "PropertyValue" else example["@type"]
    example["exampleOfWork"], profile = to(f"#parameter-{name}"), to(BIOSCHEMAS.format("FormalParameter"))
    facts = {"additionalType": kind, "conformsTo": profile, "workExample": to(example["@id"])}
    return entity(f"#parameter-{name}", "FormalParameter", name=name, **facts)


def inputs_of(record: dict) -> tuple[list[dict], list[dict]]:
    """Return the run's inputs and the entities they consist of: data, files, base model, configuration."""
    data, model, sections = record["data"], record["base_model"], record["config"]["sections"]
    base = "stand-in" if is_stand_in(model) else model["name"]
    raw = [{"name": data["hub"]["id"], "version": data["hub"]["revision"]}] if "hub" in data else data["files"]
    read = [{**facts, "description": key} for key, facts in sorted(record["files"].items())]
    manifest = {"name": model["id"] or base, "version": model["revision"], "sha256": model["manifest_sha256"]}
    tokenizer = {"name": "tokenizer", "sha256": record["tokenizer"]["sha256"]}
    inputs, works = [], []
    for key, name, parts in (
        ("raw-data", f"raw data of {data['name']}", {f"#data-{n}": facts for n, facts in enumerate(raw, 1)}),
        ("files-read", "other files of the configuration", {f"#file-{n}": facts for n, facts in enumerate(read, 1)}),
        ("base-model", f"base model {base}", {"#base-model-manifest": manifest, "#tokenizer": tokenizer}),
    ):
        for identifier, facts in parts.items():
            known = {key: facts.get(key) for key in ("name", "description", "version", "sha256")}
            size = str(facts["bytes"]) if "bytes" in facts else None
            works.append(entity(identifier, "CreativeWork", contentSize=size, **known))
        named = [to(identifier) for identifier in parts]
        inputs += [entity(f"#{key}", "Collection", name=name, hasPart=named, mainEntity=named[0])] if named else []
    for name in (name for name in SECTIONS if name in sections):
        text = json.dumps(sections[name], ensure_ascii=False, sort_keys=True)
        inputs.append(entity(f"#config-{name}", "PropertyValue", name=name, value=text))
    return inputs, works
