"""`models`: the base models, from the hub, from a folder, or made here."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from scripts.common.config.types import Day, FilePath, HubId, Name, Number, Revision, Section, Text

Architecture = Literal["mistral", "llama", "phi3", "mistral3"]
SOURCES = ("hub", "path", "embedded")


class HubModel(Section):
    """A model on the Hugging Face hub, pinned."""

    id: HubId = Field(description="Repository id on the hub, such as `mistralai/Mistral-7B-v0.3`.")
    revision: Revision = Field(description="Commit hash (40 hex digits); a branch or a tag may move, so it is refused.")


class EmbeddedModel(Section):
    """A small model of a real architecture, made on this machine for seeing and testing; no base for real use."""

    hidden_size: int = Field(256, ge=256, multiple_of=256, description="k-quants need rows of multiples of 256.")
    layers: int = Field(4, ge=1, le=16, description="Decoder layers.")
    vocabulary: int = Field(1024, ge=512, le=32768, description="Pieces of the SentencePiece tokenizer.")
    subword_dropout: Number = Field(
        0.1, ge=0, lt=1, description="Share of merges left out when its corpus is tokenized, so that it knows pieces."
    )
    context: int = Field(4096, ge=128, description="Longest sequence, in tokens.")
    image_size: int = Field(
        224, ge=56, le=1024, description="For `mistral3`: longest edge of an image, in pixels; larger ones are scaled."
    )
    vision_layers: int = Field(4, ge=3, le=16, description="For `mistral3`: layers of the vision tower.")
    languages: list[Literal["fr", "vi", "en"]] = Field(["fr", "vi", "en"], min_length=1, description="Of the corpus.")
    documents: int = Field(6000, ge=50, description="Documents of the generated corpus that it is trained on.")
    steps: int = Field(300, ge=1, description="Training steps.")
    batch_tokens: int = Field(2048, ge=256, description="Tokens in a training step.")
    learning_rate: Number = Field(0.003, gt=0, description="Peak learning rate.")
    seed: int = Field(0, ge=0, description="Seed of the corpus, of the weights and of the order.")


class Model(Section):
    """One base model; exactly one of `hub`, `path` and `embedded` says where it comes from."""

    architecture: Architecture = Field("mistral", description="Architecture; `embedded` builds this one.")
    hub: HubModel | None = Field(None, description="A hub model, pinned by commit.")
    path: FilePath | None = Field(None, description="A folder with a Hugging Face model.")
    embedded: EmbeddedModel | None = Field(None, description="A small model made here; `{}` takes the defaults.")
    trust_remote_code: bool = Field(False, description="Run Python code that the model's folder brings along.")
    chat_template: FilePath | None = Field(
        None,
        description="A built-in template (`mistral`, `mistral3`, `llama3`, `phi3`, `chatml`) or a Jinja file, for a "
        "base model that has none; none: the model's own.",
    )
    template_date: Day | None = Field(
        None,
        description="Day (YYYY-MM-DD) that the chat template writes where it asks for today's; none: its own default.",
    )
    license: Text | None = Field(None, description="SPDX identifier of the model's licence, for metadata and card.")
    name: Text | None = Field(None, description="Name for metadata and card; none: from the hub id, folder or key.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield what doesn't fit."""
        if sum(getattr(self, source) is not None for source in SOURCES) != 1:
            yield "", "give exactly one of 'hub', 'path' and 'embedded'"
        if self.embedded is not None and self.trust_remote_code:
            yield "trust_remote_code", "an embedded model brings no code along"


Models = dict[Name, Model]
