"""The section `project`: who made the models, for metadata and model cards."""

from pydantic import Field

from scripts.config.types import Section, Text


class Project(Section):
    """Names for the metadata of GGUF files and for the model card; a change makes all GGUFs and their answers again."""

    name: Text = Field("snaketune", description="Name of the project.")
    organization: Text | None = Field(None, description="Publisher of the models.")
    author: Text | None = Field(None, description="Author of the models.")
    version: str = Field("v1.0", pattern=r"^v\d+(\.\d+)*$", description="Version of the models, such as `v1.0`.")
    url: Text | None = Field(None, description="Page of the project.")
