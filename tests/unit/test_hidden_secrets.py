"""What is a secret in the environment is stars in a log, wherever it stands."""

import logging

from scripts.workflow.hidden_secrets import HideSecrets
from tests.support.secrets import PLANTED


def logged(environment: dict, message: str, *arguments: object) -> str:
    """Return what comes of a message in a log that hides the environment's secrets."""
    record = logging.LogRecord("snakemake", logging.DEBUG, __file__, 1, message, arguments, None)
    assert HideSecrets(environment).filter(record)
    return record.getMessage()


def test_a_whole_environment_is_logged_without_its_secrets():
    environment = {**PLANTED, "ODD_TOKEN": "a'b\\c\n\"d", "HOME": "/home/me", "SHORT_TOKEN": "1"}
    said = logged(environment, f"environment: {environment}")
    assert not any(secret in said for secret in (*PLANTED.values(), repr(environment["ODD_TOKEN"])[1:-1]))
    assert "'HOME': '/home/me'" in said
    assert "'SHORT_TOKEN': '1'" in said


def test_an_address_with_a_password_is_hidden_and_arguments_too_and_other_messages_stay():
    address = "https://me:password@example.org/simple"
    assert logged({"PIP_INDEX_URL": address}, "index %s of %d", address, 2) == "index *** of 2"
    assert logged(PLANTED, "rule %s", "score") == "rule score"
