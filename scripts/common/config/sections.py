"""All that a configuration says of one run: what a bundle's provenance records, and what it is held against."""

from scripts.common.config.root import Config


def sections_of(config: Config, run: str) -> dict:
    """Return the names and sections of a run, its model and its dataset, and the project's, as plain values."""
    section = config.runs[run]
    return {
        "run_key": run,
        "model_key": section.model,
        "dataset_key": section.dataset,
        "project": config.project.model_dump(mode="json"),
        "run": section.model_dump(mode="json"),
        "model": config.models[section.model].model_dump(mode="json"),
        "dataset": config.datasets[section.dataset].model_dump(mode="json"),
    }
