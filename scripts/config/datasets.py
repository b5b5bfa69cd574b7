"""The section `datasets`: raw files, how records are read from them, and how records are cleaned and split."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from scripts.config.types import FilePath, HubId, LanguageTag, Name, Number, Pattern, Revision, Section, Template, Text
from scripts.dataset.layouts import LAYOUTS

KINDS = ("json", "jsonl", "ndjson", "csv", "tsv", "parquet")
Role = Literal["system", "user", "assistant"]


class HubDataset(Section):
    """A dataset on the Hugging Face hub, pinned."""

    id: HubId = Field(description="Repository id on the hub, such as `org/name`.")
    revision: Revision = Field(description="Commit hash (40 hex digits); branches and tags may move and are refused.")
    name: Text | None = Field(None, description="Configuration (subset) of the dataset.")
    split: Text = Field("train", description="The hub's split to read; snaketune makes its own splits from it.")


class Check(Section):
    """Patterns for the answers of one label."""

    label: Text | None = Field(None, description="Label (after `label_map`) of the checked records; none: all records.")
    must_match: Pattern | None = Field(None, description="Regular expression that must match somewhere in the answer.")
    must_not_match: Pattern | None = Field(None, description="Regular expression that must not match in the answer.")
    on_violation: Literal["list", "quarantine", "relabel"] = Field(
        "list",
        description="`list` keeps the record and lists it in the ledger; `quarantine` moves it to the quarantine file; "
        "`relabel` sets its label to `unknown`.",
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if self.must_match is None and self.must_not_match is None:
            yield "", "has no pattern: set 'must_match' or 'must_not_match'"


class Splits(Section):
    """Shares of the splits; a hash of the record's group decides, so adding a record does not move others."""

    train: Number = Field(0.8, ge=0, le=1, description="Share of the groups in the training split.")
    validation: Number = Field(0.1, ge=0, le=1, description="Share for evaluation during training; may be 0.")
    test: Number = Field(0.1, ge=0, le=1, description="Share held out for prediction and scoring.")
    seed: int = Field(0, ge=0, description="Seed of the hash; another seed gives another split.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            yield "", f"the shares add up to {total:g}, not to 1: train + validation + test must be 1"
        if self.train == 0:
            yield "train", "must be above 0, or nothing is trained on"


class Deduplicate(Section):
    """Removal of duplicates; candidates are found by MinHash and verified exactly."""

    exact: bool = Field(True, description="Remove records whose messages are identical after normalisation.")
    near: bool = Field(True, description="Remove records whose text is nearly identical.")
    threshold: Number = Field(0.85, gt=0, le=1, description="Least Jaccard similarity of near duplicates' shingles.")
    shingle: int = Field(5, ge=1, le=50, description="Characters in a shingle.")
    compare: Literal["answer", "conversation"] = Field(
        "conversation",
        description="`answer` compares the last assistant message, `conversation` all messages except the system "
        "message: different questions may have the same short answer. Without `group_by`, records with the same "
        "compared text are in one split.",
    )


class Augment(Section):
    """Further prompts for small datasets: variants of the user's message, in the training split only."""

    templates: list[Template] = Field(
        min_length=1,
        description="Jinja templates of the variant's last user message; they see `user`, `label`, `meta` and the raw "
        "record's fields.",
    )
    copies: int = Field(1, ge=1, le=20, description="Variants per training record; templates are used in turn.")


class Redact(Section):
    """Replacement of personal data that a trained classifier finds, before duplicates are removed."""

    run: Name = Field(description="Run of the task `token_classification` whose model finds the personal data.")
    labels: list[Text] | None = Field(None, min_length=1, description="Labels to replace; none: all labels of the run.")
    placeholder: Text = Field(
        "[{label}_{number}]",
        description="Text that replaces an entity; `{number}` counts the different entities of a record.",
    )

    def conflicts(self) -> Iterator[tuple[str, str]]:
        rest = self.placeholder.replace("{label}", "").replace("{number}", "")
        if "{label}" not in self.placeholder or "{" in rest or "}" in rest:
            yield "placeholder", "must contain {label} and may contain {number}, but no other braces"


class Dataset(Section):
    """One dataset: the source of its raw records, and how they are processed."""

    files: list[FilePath] | None = Field(
        None,
        min_length=1,
        description="Raw files, relative to the working directory: json, jsonl, csv, tsv or parquet, each also .gz or "
        ".zst. Give exactly one of `files` and `hub`.",
    )
    hub: HubDataset | None = Field(None, description="A hub dataset instead of files.")
    validation_files: list[FilePath] = Field([], description="Raw files that are the whole validation split.")
    test_files: list[FilePath] = Field([], description="Raw files that are the whole test split.")
    max_records: int | None = Field(None, ge=1, description="Read only the first so many records of each file.")
    images: FilePath | None = Field(None, description="Folder of the images that records name; others are refused.")
    corrections: FilePath | None = Field(
        None,
        description="File of accepted corrections of records, which `make review` exports; it may not exist yet.",
    )
    format: Literal[tuple(LAYOUTS)] = Field(description="Layout of a raw record.")
    fields: dict[Role, Template] | None = Field(
        None, description="For the format `fields`: one Jinja template per role; it sees the raw record's fields."
    )
    columns: dict[Text, Text] = Field({}, description="Raw columns with other names, such as `prompt: question`.")
    system: Text | None = Field(None, description="System message for records that have none.")
    language: LanguageTag | None = Field(
        None,
        description="BCP 47 tag, such as `fr` or `vi`; metrics and metadata use it. It is stored in the GGUF: a change "
        "makes GGUFs and their answers again.",
    )
    license: Text | None = Field(None, description="SPDX identifier of the data's licence, for the model card.")
    label: Text | None = Field(None, description="Raw column with the record's label.")
    label_map: dict[str, Text] = Field({}, description="New names of raw labels, such as `goal: But`; others stay.")
    span_label_map: dict[str, Text] = Field(
        {},
        description="For the format `spans`: new names of raw span labels; other labels are unchanged, and `O` drops "
        "the span.",
    )
    strip_span_label_numbers: bool = Field(
        False,
        description="For the format `spans`: strip the number at the end of a label before `span_label_map` is "
        "applied, so that `FIRSTNAME_1` and `FIRSTNAME_2` are both `FIRSTNAME`.",
    )
    redact: Redact | None = Field(None, description="Replacement of personal data that a trained classifier finds.")
    group_by: Text | None = Field(None, description="Raw column of the group; a group's records are in one split.")
    stratify: bool = Field(
        True,
        description="Search the seed whose splits keep the labels' shares closest, and name it in the ledger. Single "
        "records are not assigned, because that would move others.",
    )
    min_characters: int = Field(1, ge=0, description="A record with a shorter answer is bad (empty or truncated).")
    max_characters: int | None = Field(None, ge=1, description="A record with a longer answer is bad.")
    checks: list[Check] = Field([], description="Patterns that the answers of a label must or must not match.")
    on_bad_record: Literal["fail", "quarantine"] = Field(
        "fail", description="`fail` stops; `quarantine` moves the record to quarantine.jsonl with the reason."
    )
    deduplicate: Deduplicate = Field(Deduplicate(), description="Removal of duplicates.")
    splits: Splits = Field(Splits(), description="Shares of the splits.")
    augment: Augment | None = Field(None, description="Further training records with rewritten prompts.")

    def conflicts(self) -> Iterator[tuple[str, str]]:
        if (self.files is None) == (self.hub is None):
            yield "", "give exactly one of 'files' and 'hub'"
        for key, file in self.named_files():
            kind = file.lower().removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
            if kind not in KINDS:
                yield key, f"'{file}' has no known format: {', '.join(KINDS)}, each also .gz or .zst"
        places: dict[str, str] = {}
        for key, file in self.named_files():
            if (other := places.setdefault(file.removeprefix("./"), key)) != key:
                yield key, f"'{file}' is in '{other}' as well: a file can be in one split only"
        if self.hub is not None:
            for key in ("validation_files", "test_files"):
                if getattr(self, key):
                    yield key, "needs 'files', but the dataset is from the hub"
        for key, share in (("validation_files", "validation"), ("test_files", "test")):
            for given in self.splits.given(share):
                if getattr(self, key) and getattr(self.splits, share):
                    yield f"splits.{given}", f"has no effect, because '{key}' is that split: set it to 0"
        if self.splits.test == 0 and not self.test_files:
            yield "splits.test", "must be above 0 without 'test_files', or nothing is scored"
        if self.corrections is not None and self.redact is not None:
            yield "corrections", "can't be used with 'redact', which gives records other ids: correct the raw files"
        yield from self.format_conflicts()
        yield from self.label_conflicts()
        if self.max_characters is not None and self.max_characters < self.min_characters:
            yield "max_characters", f"is below min_characters ({self.min_characters}): no answer is allowed"

    def named_files(self) -> Iterator[tuple[str, str]]:
        """Yield each raw file with its key."""
        for key in ("files", "validation_files", "test_files"):
            yield from ((key, file) for file in getattr(self, key) or [])

    def format_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield conflicts with the format."""
        if self.format == "fields" and self.fields is None:
            yield "fields", "is missing: 'format: fields' needs a template for each of 'user' and 'assistant'"
        if self.fields is not None:
            if self.format != "fields":
                yield "fields", f"is for 'format: fields', but the format is '{self.format}'"
            for role in ("user", "assistant"):
                if role not in self.fields:
                    yield "fields", f"has no template for '{role}'"
        for key in ("span_label_map", "strip_span_label_numbers"):
            if getattr(self, key) and self.format != "spans":
                yield key, f"is for 'format: spans', but the format is '{self.format}'"
        if self.augment is not None and self.format == "spans":
            yield "augment", "can't be used with 'format: spans', because it moves the spans: delete it"
        if self.images is not None and self.format in ("spans", "alpaca", "fields"):
            yield "images", f"records of the format '{self.format}' have no images: use the format 'messages'"
        known = [column for columns in LAYOUTS[self.format] for column in columns]
        for column in self.columns:
            if known and column not in known:
                yield f"columns.{column}", f"the format '{self.format}' has no such column; it has {', '.join(known)}"

    def label_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yield settings that need `label`, if it is not set."""
        if self.label is not None:
            return
        if self.label_map:
            yield "label_map", "needs 'label', the raw column of the labels"
        needs = "needs the dataset's 'label', the raw column of the labels"
        for position, check in enumerate(self.checks):
            if check.label is not None:
                yield f"checks[{position}].label", needs
            elif check.on_violation == "relabel":
                yield f"checks[{position}].on_violation", f"'relabel' {needs}"


Datasets = dict[Name, Dataset]
