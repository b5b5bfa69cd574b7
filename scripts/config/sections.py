"""The sections of a configuration that concern one run. A bundle's provenance records them for later comparison."""

from scripts.config.metric_checks import applies_to
from scripts.config.root import Config


def sections_of(config: Config, run: str) -> dict:
    """Return names and sections of a run, its model and its dataset, the section `project`, and the run's gates.

    If the dataset is redacted, `redaction` holds the same for the run that redacts it. All values are JSON-ready.
    The run has no trackers, and neither target nor soak, because these do not change the bundle.
    """
    section = config.runs[run]
    dataset = config.datasets[section.dataset]
    training = section.training.model_dump(mode="json") | {"report_to": []}
    return {
        "run_key": run,
        "model_key": section.model,
        "dataset_key": section.dataset,
        "project": config.project.model_dump(mode="json"),
        "run": section.model_dump(mode="json", exclude={"deploy": {"target", "soak"}}) | {"training": training},
        "model": config.models[section.model].model_dump(mode="json"),
        "dataset": dataset.model_dump(mode="json"),
        "gates": gates_of(config, run),
        **({"redaction": sections_of(config, dataset.redact.run)} if dataset.redact else {}),
    }


def gates_of(config: Config, run: str) -> dict[str, dict]:
    """Return the gates that apply to a run, without their key `runs`."""
    gates = {name: gate for name, gate in config.gates.items() if applies_to(gate, run)}
    return {name: gate.model_dump(mode="json", exclude={"runs"}) for name, gate in gates.items()}
