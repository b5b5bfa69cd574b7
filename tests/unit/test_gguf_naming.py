"""File names and metadata of GGUF files, held against the specification's own regular expression."""

import itertools
import re

import pytest

from scripts.gguf.metadata import display_name, general_metadata
from scripts.gguf.naming import base_name, base_version, fine_tune, model_name, size_label
from tests.support.data import load

METADATA = load("gguf_metadata.yaml")
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md#validating-above-naming-convention, in Python's syntax.
SPECIFICATION = re.compile(
    r"^(?:(?P<Sidecar>mmproj|mtp)-)?"
    r"(?P<BaseName>[A-Za-z0-9\s]*(?:(?:-(?:(?:[A-Za-z\s][A-Za-z0-9\s]*)|(?:[0-9\s]*)))*))-"
    r"(?:(?P<SizeLabel>(?:\d+x)?(?:\d+\.)?\d+[A-Za-z](?:-[A-Za-z]+(\d+\.)?\d+[A-Za-z]+)?)(?:-(?P<FineTune>[A-Za-z0-9\s-]+))?)?-"
    r"(?:(?P<Version>v\d+(?:\.\d+)*))(?:-(?P<Encoding>(?!LoRA|vocab)[\w_]+))?(?:-(?P<Type>LoRA|vocab))?"
    r"(?:-(?P<Shard>\d{5}-of-\d{5}))?\.gguf$"
)


@pytest.mark.parametrize("base", METADATA["bases"])
def test_a_file_name_follows_the_specification_and_reads_back(base):
    sizes = [(7_248_023_552, "q4_k_m"), (721_664, "bf16"), (12_000_000, "iq4_nl")]
    for run, (parameters, quant) in itertools.product(METADATA["runs"], sizes):
        name = model_name(base, parameters, run, "v1.0")
        found = SPECIFICATION.match(name.file_name(quant))
        read = [found[part] for part in ("BaseName", "SizeLabel", "FineTune", "Version", "Encoding")]
        assert read == [name.basename, name.size_label, name.finetune, "v1.0", quant.upper()]


def test_a_size_label_has_the_specifications_form_and_size_and_version_are_not_part_of_the_base_name():
    sizes, parts = METADATA["sizes"], METADATA["parts"]
    assert {parameters: size_label(parameters) for parameters in sizes} == sizes
    assert {name: [base_name(name), base_version(name)] for name in parts} == parts
    assert fine_tune("r16a-long") == "r-16a-long"  # which would be read as an attribute of the size


def settings(**changes) -> dict:
    return {**METADATA["settings"], **changes}


def model(**changes) -> dict:
    return {"name": None, "license": None, "hub": None, "path": None, "gguf": None, **changes}


def test_metadata_say_what_a_model_is_and_where_it_comes_from():
    name = model_name("Mistral-7B-v0.3", 7_248_023_552, "football", "v1.2")
    mistral = model(hub={"id": "mistralai/Mistral-7B-v0.3"})
    assert general_metadata(name, settings(model=mistral), "apache-2.0") == METADATA["metadata"]


def test_a_base_that_is_not_on_the_hub_has_no_address_and_a_hub_dataset_is_linked():
    local = settings(model=model(license="mit", path="/models/of/mine-3B"))
    local["dataset"] = {"hub": {"id": "org/data"}, "language": None}
    found = general_metadata(model_name("mine-3B", 3_000_000_000, "football", "v1.0"), local, None)
    assert (found["general.base_model.0.name"], found["general.license"]) == ("mine-3B", "mit")
    assert not any("base_model.0.repo_url" in key or "/models" in str(value) for key, value in found.items())
    assert (
        found["general.datasets"]
        == [found["general.dataset.0.repo_url"]]
        == ["https://huggingface.co/datasets/org/data"]
    )
    assert "general.languages" not in found


def test_a_base_model_is_called_by_the_best_name_there_is():
    for facts, shown in (
        ({"name": "My model", "hub": {"id": "a/b"}}, "My model"), ({"hub": {"id": "a/b"}}, "b"), ({}, "key"),
        ({"path": "some/folder/model-x"}, "model-x"),
        ({"gguf": {"file": "x/SmolLM2-135M-Instruct.Q4_1.gguf"}}, "SmolLM2-135M-Instruct"),
    ):  # fmt: skip
        assert display_name(model(**facts), "key") == shown
