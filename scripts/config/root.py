"""The whole configuration: its sections."""

from typing import Any, Literal

from pydantic import Field, PrivateAttr

from scripts.config.datasets import Datasets
from scripts.config.environments import Environments
from scripts.config.gates import Gates
from scripts.config.models import Models
from scripts.config.runs import Runs
from scripts.config.sites import Sites
from scripts.config.types import FilePath, Name, Section, Text


class Project(Section):
    """Names for the metadata of GGUF files and for the model card; a change makes all GGUFs and their answers again."""

    name: Text = Field("snaketune", description="Name of the project.")
    organization: Text | None = Field(None, description="Publisher of the models.")
    author: Text | None = Field(None, description="Author of the models.")
    version: str = Field("v1.0", pattern=r"^v\d+(\.\d+)*$", description="Version of the models, such as `v1.0`.")
    url: Text | None = Field(None, description="Page of the project.")


class Override(Section):
    """Settings that replace those of every model and every run, such as those of `config/embedded.yaml`."""

    results: Name | None = Field(
        None, description="Subfolder for results, in the results folder of the configuration without the override."
    )
    models: dict[str, Any] = Field({}, description="Settings for every model; a source replaces the model's source.")
    runs: dict[str, Any] = Field({}, description="Settings for every run.")


class Config(Section):
    """One file describes datasets, models, runs and gates."""

    project: Project = Field(Project(), description="Names for GGUF metadata and model card.")
    datasets: Datasets = Field(min_length=1, description="Raw data, and how it is read, cleaned and split.")
    models: Models = Field(min_length=1, description="Base models.")
    runs: Runs = Field(min_length=1, description="Fine-tuning runs.")
    gates: Gates = Field({}, description="What a trained model must reach to be promoted.")
    sites: Sites = Field({}, description="Web sites from which raw records may be collected.")
    environments: Environments = Field(Environments(), description="Environments with `--sdm conda` or `apptainer`.")
    offline: bool = Field(
        False,
        description="Do not use the network: hub models and datasets come from the local cache, the converter from the "
        "archive that SNAKETUNE_LLAMA_CPP_ARCHIVE names; a missing file stops the step.",
    )
    monitor_logs: list[FilePath] = Field(
        [],
        description="Files of the monitor in production (`quality_monitor.py` of a bundle), shown on the leaderboard.",
    )
    override: Override | None = Field(None, description="Settings that replace those of every model and every run.")
    pathvars: dict[Literal["results", "logs", "benchmarks"], FilePath] = Field(
        {}, description="Folders of results, logs and benchmarks, as Snakemake's `pathvars`."
    )
    _sweeps: dict[str, list[str]] = PrivateAttr({})

    @property
    def sweeps(self) -> dict[str, list[str]]:
        """The runs of each sweep with several, by the name of the written run; filled in when sweeps are expanded."""
        return self._sweeps
