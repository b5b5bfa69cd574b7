"""A configuration with a secret in it is refused in one line that does not show the secret."""

import copy
from pathlib import Path

import pytest
import yaml

from scripts.common.config import ConfigError, load_config
from tests.support.project import CONFIG, Project
from tests.support.secrets import PLANTED

ROOT = Path(__file__).resolve().parents[2]


def changed(*keys: str, value: object) -> dict:
    """Return the small project's configuration with another value at a place."""
    config = copy.deepcopy(yaml.safe_load(CONFIG))
    target = config
    for key in keys[:-1]:
        target = target.setdefault(key, {})
    target[keys[-1]] = value
    return config


@pytest.mark.parametrize(
    ("keys", "value", "line"),
    [
        (("hf_token",), "secretsecret", "hf_token: is a secret by its name"),
        (("models", "small", "hub_token"), "secretsecret", "models.small.hub_token: is a secret by its name"),
        (("runs", "cards", "WANDB_API_KEY"), "secretsecret", "runs.cards.WANDB_API_KEY: is a secret by its name"),
        (("override", "runs", "password"), "secretsecret", "override.runs.password: is a secret by its name"),
        (("project", "url"), "https://me:secretsecret@example.org/x", "project.url: is an address with a password"),
        (("project", "author"), "hf_secretsecretsecret", "project.author: is a Hugging Face token"),
        (("datasets", "cards", "files"), ["data/AKIASECRETSECRETSEC1.json"], "datasets.cards.files[0]: is an AWS key"),
        (
            ("runs", "cards", "training", "report_to"),
            ["hf_secretsecretsecret"],
            "to[0]: is a Hugging Face token",
        ),
    ],
)
def test_a_secret_is_refused_and_not_shown(keys, value, line):
    with pytest.raises(ConfigError) as refused:
        load_config(changed(*keys, value=value))
    [said] = refused.value.lines
    assert line in said
    assert "set it in the environment" in said
    assert "secretsecret" not in said.lower()


def test_a_token_as_a_key_is_not_shown_either():
    with pytest.raises(ConfigError) as refused:
        load_config(changed("runs", "cards", "hf_secretsecretsecret", value="hf_secretsecretsecret"))
    assert "secretsecret" not in str(refused.value)


@pytest.mark.parametrize("value", list(PLANTED.values()))
def test_the_tokens_of_the_other_tests_would_be_refused_by_a_key(value):
    with pytest.raises(ConfigError, match="is no place for it"):
        load_config(changed("api_key", value=value))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("project", "url"), "https://example.org:8080/a@b"),
        (("datasets", "cards", "files"), ["data/sk-news-articles-by-day-2024.jsonl"]),
        (("datasets", "cards", "label_map"), {"password": "PASSWORD", "token": "TOKEN"}),
        (("runs", "cards", "deploy"), {"quant": "bf16", "limits": "Write to me@example.org: it knows no password."}),
        (("runs", "cards", "generation"), {"max_new_tokens": 4, "system": "Say hf_ and sk- and https://x.org/a:b@c"}),
    ],
)
def test_what_only_looks_a_little_like_a_secret_is_allowed(keys, value):
    load_config(changed(*keys, value=value))


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_configuration_has_a_secret(path):
    from scripts.common.config.secrets import secret_lines

    assert [*secret_lines(yaml.safe_load(path.read_text(encoding="utf-8")))] == []


def test_snakemake_says_it_in_one_line_and_keeps_nothing(tmp_path):
    project = Project.made_in(tmp_path)
    token = PLANTED["HF_TOKEN"]
    with project.edited("config/config.yaml", lambda text: text.replace("language: fr", f"license: {token}")):
        done = project.snakemake("-n")
    assert done.returncode == 1
    assert "datasets.cards.license: is a Hugging Face token" in done.stdout
    assert token not in done.stdout
    assert [path for path in project.files(".snakemake") if token.encode() in path.read_bytes()] == []
