"""A configuration with a secret in it is refused in one line that does not show the secret."""

import functools

import pytest
import yaml

from scripts.config.load import ConfigError, load_config
from tests.support.project import CONFIG, Project
from tests.support.secrets import PLANTED


def changed(place: str, value: object) -> dict:
    """Return the small project's configuration with another value at a place, its keys joined by dots."""
    config, (*keys, last) = yaml.safe_load(CONFIG), place.split(".")
    functools.reduce(lambda section, key: section.setdefault(key, {}), keys, config)[last] = value
    return config


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("hf_token", "secretsecret", "hf_token: is a secret by its name"),
        ("models.small.hub_token", "secretsecret", "models.small.hub_token: is a secret by its name"),
        ("runs.cards.WANDB_API_KEY", "secretsecret", "runs.cards.WANDB_API_KEY: is a secret by its name"),
        ("override.runs.password", "secretsecret", "override.runs.password: is a secret by its name"),
        ("project.url", "https://me:secretsecret@example.org/x", "project.url: is an address with a password"),
        ("project.author", "hf_secretsecretsecret", "project.author: is a Hugging Face token"),
        ("datasets.cards.files", ["data/AKIASECRETSECRETSEC1.json"], "datasets.cards.files[0]: is an AWS key"),
        ("runs.cards.training.report_to", ["hf_secretsecretsecret"], "to[0]: is a Hugging Face token"),
        ("runs.cards.hf_secretsecretsecret", "hf_secretsecretsecret", "is a Hugging Face token"),
        *(("api_key", token, "api_key: is a secret by its name") for token in PLANTED.values()),
    ],
)
def test_a_secret_is_refused_and_not_shown(place, value, line):
    with pytest.raises(ConfigError) as refused:
        load_config(changed(place, value))
    [said] = refused.value.lines
    assert line in said
    assert "use an environment variable" in said
    assert "secretsecret" not in said.lower()
    assert str(value) not in said


def test_snakemake_says_it_in_one_line_and_keeps_nothing(tmp_path):
    project = Project.made_in(tmp_path)
    token = PLANTED["HF_TOKEN"]
    with project.edited("config/config.yaml", lambda text: text.replace("language: fr", f"license: {token}")):
        done = project.snakemake("-n")
    assert done.returncode == 1
    assert "datasets.cards.license: is a Hugging Face token" in done.stdout
    assert token not in done.stdout
    assert [path for path in project.files(".snakemake") if token.encode() in path.read_bytes()] == []
