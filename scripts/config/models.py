"""The section `models`: base models from the hub, a folder or a GGUF file, or stand-ins made for tests."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from scripts.config.types import Day, FilePath, HubId, Name, Revision, Section, Sha256, Text

Architecture = Literal["mistral", "llama", "phi3", "mistral3"]
SOURCES = ("hub", "path", "gguf", "embedded")
GGUF_ARCHITECTURES = ("llama", "mistral")


class HubModel(Section):
    """A model on the Hugging Face hub, pinned."""

    id: HubId = Field(description="Repository id on the hub, such as `mistralai/Mistral-7B-v0.3`.")
    revision: Revision = Field(description="Commit hash (40 hex digits); branches and tags may move and are refused.")


class GgufModel(Section):
    """A GGUF file: a path, or a file inside a wheel of the Python registry, pinned by version and SHA-256."""

    file: FilePath = Field(description="Path of the GGUF file; with `package`, its path inside the wheel.")
    package: Text | None = Field(None, description="Package of the Python registry that contains the file.")
    version: Text | None = Field(None, description="Version of the package.")
    sha256: Sha256 | None = Field(None, description="SHA-256 of the wheel, as 64 hex digits.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        given = [key for key in ("package", "version", "sha256") if getattr(self, key) is not None]
        if given and len(given) < 3:
            yield "", f"{', '.join(given)}: a file in a package needs 'package', 'version' and 'sha256'"


class EmbeddedModel(Section):
    """A stand-in: a small model of a real architecture with random weights, made on this machine for tests."""

    REMOVED: ClassVar[dict[str, str]] = dict.fromkeys(
        ("batch_tokens", "documents", "languages", "learning_rate", "steps", "subword_dropout"),
        "was removed: a stand-in has random weights and trains on no text; delete the key",
    )

    hidden_size: int = Field(256, ge=256, multiple_of=256, description="Hidden size; k-quants need a multiple of 256.")
    layers: int = Field(2, ge=1, le=16, description="Decoder layers.")
    vocabulary: int = Field(1024, ge=512, le=2048, description="Vocabulary size of the SentencePiece tokenizer.")
    context: int = Field(4096, ge=128, description="Longest sequence, in tokens.")
    image_size: int = Field(112, ge=56, le=1024, description="For `mistral3`: longest edge of an image in pixels.")
    vision_layers: int = Field(3, ge=3, le=16, description="For `mistral3`: layers of the vision tower.")
    seed: int = Field(0, ge=0, description="Seed of the weights.")


class Model(Section):
    """One base model; give exactly one of its sources `hub`, `path`, `gguf` and `embedded`."""

    architecture: Architecture = Field("mistral", description="Architecture of the model, also for `embedded`.")
    hub: HubModel | None = Field(None, description="A hub model, pinned by commit.")
    path: FilePath | None = Field(None, description="A folder with a Hugging Face model.")
    gguf: GgufModel | None = Field(None, description="A GGUF file; its weights are dequantized.")
    embedded: EmbeddedModel | None = Field(None, description="A stand-in made here, for tests; `{}`: the defaults.")
    device: Literal["auto", "cpu"] = Field(
        "auto",
        description="`cpu`: for a small model. Its steps see no GPU, request little memory and, except for training, "
        "one thread, so that several run at once. A stand-in always uses the CPU.",
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    chat_template: FilePath | None = Field(
        None,
        description="A built-in template (`mistral`, `mistral3`, `llama3`, `phi3`, `chatml`) or a Jinja file, for a "
        "base model without a template; none: the model's own.",
    )
    template_date: Day | None = Field(
        None,
        description="Day (YYYY-MM-DD) that the chat template writes instead of today's; none: the template's default.",
    )
    license: Text | None = Field(None, description="SPDX identifier of the model's licence, for metadata and card.")
    name: Text | None = Field(None, description="Name for metadata and card; none: from the hub id, folder or key.")

    @property
    def on_cpu(self) -> bool:
        """Whether the steps of this model use only the CPU, even on a machine with a GPU."""
        return self.embedded is not None or self.device == "cpu"

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if sum(getattr(self, source) is not None for source in SOURCES) != 1:
            yield "", "give exactly one of 'hub', 'path', 'gguf' and 'embedded'"
        if self.embedded is not None and self.trust_remote_code:
            yield "trust_remote_code", "is not for an embedded model, which has no code"
        if self.gguf is not None and self.trust_remote_code:
            yield "trust_remote_code", "is not for a GGUF file, which has no code"
        if self.gguf is not None and self.architecture not in GGUF_ARCHITECTURES:
            yield "architecture", f"is '{self.architecture}'; a GGUF base is one of {', '.join(GGUF_ARCHITECTURES)}"


Models = dict[Name, Model]
