"""The bundle as a Workflow Run RO-Crate: ro-crate-metadata.json says what was run on what, and what came of it.

Source: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profiles Workflow Run Crate 0.5
(https://w3id.org/ro/wfrun/workflow/0.5), Process Run Crate 0.5 and Workflow RO-Crate 1.0. They want the workflow itself
in the crate, so that a copy of it is in the bundle's folder `workflow`.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from scripts.common.files import sha256_of, write_json

FILE = "ro-crate-metadata.json"
WORKFLOW = "workflow"
MAIN = f"{WORKFLOW}/Snakefile"
# RO-Crate 1.1 has no term for a hash; schema.org has.
TERMS = {"sha256": "http://schema.org/sha256"}
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
PARAMETER_PROFILE = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
WORKFLOW_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
KINDS = {".json": "application/json", ".md": "text/markdown", ".py": "text/x-python", ".jinja": "text/plain"}
BYTES = "application/octet-stream"
SECTIONS = ("run", "model", "dataset", "project", "gates", "redaction")
PLAIN = ("Modelfile", "Snakefile")
SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*-[A-Za-z0-9.+-]*|MIT|ISC|Zlib")


@dataclass(frozen=True)
class Run:
    """A run: its provenance record, the bundle's main file, the model's licence (SPDX, or words), when it ended."""

    record: dict
    main_file: str
    license: str
    ended: str


def write_crate(folder: Path, project: Path, run: Run) -> None:
    """Copy the workflow into a bundle's folder, and describe all that is there; nothing but SHA256SUMS comes after."""
    copy_workflow(project, folder / WORKFLOW)
    write_json(folder / FILE, crate_of(folder, project, run))


def copy_workflow(project: Path, folder: Path) -> None:
    """Copy the Snakefile and the rules."""
    for path in (project / "Snakefile", *sorted((project / "rules").glob("*.smk"))):
        target = folder / path.relative_to(project)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def kind_of_file(path: Path) -> str:
    """Return a file's media type."""
    return "text/plain" if path.name in PLAIN or path.suffix == ".smk" else KINDS.get(path.suffix, BYTES)


def crate_of(folder: Path, project: Path, run: Run) -> dict:
    """Return the content of ro-crate-metadata.json, the same for the same bundle and run."""
    from rocrate.rocrate import ROCrate

    crate, record = ROCrate(version="1.1"), run.record
    crate.metadata.extra_terms.update(TERMS)
    settings = record["config"]["sections"]
    crate.name = run.main_file if "/" not in run.main_file else record["run"]
    crate.description = (
        settings["run"]["deploy"]["description"] or f"What the run {record['run']} made, to be deployed."
    )
    crate.root_dataset["datePublished"] = run.ended
    crate.root_dataset["license"] = license_entity(crate, run.license)
    profiles = [entity(crate, url, "CreativeWork", name=name) for url, name in PROFILES.items()]
    crate.root_dataset["conformsTo"] = profiles
    files = add_files(crate, folder, project, record)
    inputs = [raw_data(crate, record["data"]), *files_read(crate, record["files"]), base_model(crate, record)]
    inputs += configuration(crate, settings)
    output = parameter(crate, "made-model", "File", files[run.main_file])
    workflow = files[MAIN]
    workflow["input"] = [given["exampleOfWork"] for given in inputs]
    workflow["output"] = output
    results = [file for name, file in files.items() if not name.startswith(f"{WORKFLOW}/")]
    action = entity(
        crate,
        "#run",
        "CreateAction",
        name=f"Run {record['run']} of snaketune",
        description="From raw data to a fine-tuned, merged, quantized and scored model.",
        endTime=run.ended,
        actionStatus="http://schema.org/CompletedActionStatus",
        **({"startTime": record["training"]["started"]} if "started" in record["training"] else {}),
    )
    action["instrument"], action["object"], action["result"] = workflow, inputs, results
    crate.root_dataset["mentions"] = [action, *(given for given in inputs if given.type == "Collection")]
    if agent := organization(crate, settings["project"]):
        action["agent"] = crate.root_dataset["author"] = crate.root_dataset["publisher"] = agent
    return crate.metadata.generate()


def entity(crate, identifier: str, kind: str, **properties):
    """Add an entity that is no file; of properties that are None nothing is said."""
    from rocrate.model.contextentity import ContextEntity

    known = {key: value for key, value in properties.items() if value is not None}
    return crate.add(ContextEntity(crate, identifier, properties={"@type": kind, **known}))


def add_files(crate, folder: Path, project: Path, record: dict) -> dict:
    """Add all files of the bundle with sizes and hashes, the Snakefile as the workflow; return them by name."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        facts = {
            "name": name,
            "contentSize": str(path.stat().st_size),
            "sha256": sha256_of(path),
            "encodingFormat": kind_of_file(path),
        }
        if name == MAIN:
            code = record["code"]
            facts |= {"name": "snaketune", "version": code["commit"] or code["sha256"]}
            version = snakemake_version(project)
            files[name] = crate.add_workflow(
                None, name, main=True, lang="snakemake", lang_version=version, properties=facts
            )
            files[name]["conformsTo"] = {"@id": WORKFLOW_PROFILE}
        else:
            files[name] = crate.add_file(None, name, properties=facts)
    files["README.md"]["about"] = crate.root_dataset
    return files


def snakemake_version(project: Path) -> str | None:
    """Return the version of Snakemake that the workflow's lock has."""
    found = re.search(r"^snakemake==(\S+)", (project / "envs" / "workflow.lock").read_text(encoding="utf-8"), re.M)
    return found[1] if found else None


def license_entity(crate, text: str):
    """Return the licence: by its SPDX page where it looks like one, else as words."""
    identifier = f"https://spdx.org/licenses/{text}" if SPDX.fullmatch(text) else "#license"
    return entity(crate, identifier, "CreativeWork", name=text)


def organization(crate, project: dict):
    """Return who publishes the models, where the configuration says it."""
    if project["organization"] is None:
        return None
    return entity(crate, "#organization", "Organization", name=project["organization"], url=project["url"])


def parameter(crate, name: str, kind: str, example):
    """Add an input or output of the workflow, and what it was in this run."""
    found = entity(crate, f"#parameter-{name}", "FormalParameter", name=name, additionalType=kind)
    found["conformsTo"] = {"@id": PARAMETER_PROFILE}
    found["workExample"], example["exampleOfWork"] = example, found
    return found


def collection(crate, identifier: str, name: str, parts: list):
    """Add a collection of works that are not in the crate."""
    found = entity(crate, identifier, "Collection", name=name)
    if parts:
        found["hasPart"], found["mainEntity"] = parts if len(parts) > 1 else parts[0], parts[0]
    return found


def raw_data(crate, data: dict):
    """Add the raw data: files by name and hash, or the pinned dataset of the hub."""
    if "hub" in data:
        hub = data["hub"]
        parts = [entity(crate, "#data-1", "CreativeWork", name=hub["id"], version=hub["revision"])]
    else:
        parts = [
            entity(
                crate,
                f"#data-{number}",
                "CreativeWork",
                name=file["name"],
                contentSize=str(file["bytes"]),
                sha256=file["sha256"],
            )
            for number, file in enumerate(data["files"], 1)
        ]
    found = collection(crate, "#raw-data", f"raw data of {data['name']}", parts)
    parameter(crate, "raw-data", "Collection", found)
    return found


def files_read(crate, files: dict) -> list:
    """Add what the run read beside its raw data, by name and hash; a folder by one hash over its files."""
    parts = [
        entity(
            crate,
            f"#file-{number}",
            "CreativeWork",
            name=facts["name"],
            description=key,
            contentSize=str(facts["bytes"]),
            sha256=facts["sha256"],
        )
        for number, (key, facts) in enumerate(sorted(files.items()), 1)
    ]
    if not parts:
        return []
    found = collection(crate, "#files-read", "further files that the configuration names", parts)
    parameter(crate, "files-read", "Collection", found)
    return [found]


def base_model(crate, record: dict):
    """Add the base model, by the hash of its manifest, and its tokenizer."""
    model = record["base_model"]
    parts = [
        entity(
            crate,
            "#base-model-manifest",
            "CreativeWork",
            name=model["id"] or model["name"],
            version=model["revision"],
            sha256=model["manifest_sha256"],
        ),
        entity(crate, "#tokenizer", "CreativeWork", name="tokenizer", sha256=record["tokenizer"]["sha256"]),
    ]
    found = collection(crate, "#base-model", f"base model {model['name']}", parts)
    parameter(crate, "base-model", "Collection", found)
    return found


def configuration(crate, settings: dict) -> list:
    """Add the sections of the configuration as they were, as JSON."""
    values = []
    for section in (name for name in SECTIONS if name in settings):
        text = json.dumps(settings[section], ensure_ascii=False, sort_keys=True)
        values.append(entity(crate, f"#config-{section}", "PropertyValue", name=section, value=text))
        parameter(crate, f"config-{section}", "Text", values[-1])
    return values
