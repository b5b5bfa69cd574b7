"""What is a secret in the environment is stars in a log, wherever it stands."""

import logging

from scripts.workflow.hidden_secrets import HideSecrets
from tests.support.secrets import PLANTED


def logged(caplog, message: str, *arguments: object, environment: dict) -> str:
    """Return what comes of a message in a logger that hides the environment's secrets."""
    logger, hider = logging.getLogger("snaketune.test"), HideSecrets(environment)
    logger.addFilter(hider)
    try:
        with caplog.at_level(logging.DEBUG, logger.name):
            logger.debug(message, *arguments)
    finally:
        logger.removeFilter(hider)
    return caplog.messages[-1]


def test_a_whole_environment_is_logged_without_its_secrets(caplog):
    environment = {**PLANTED, "ODD_TOKEN": "a'b\\c\n\"d", "HOME": "/home/me", "SHORT_TOKEN": "1"}
    said = logged(caplog, f"environment: {environment}", environment=environment)
    assert not any(secret in said for secret in (*PLANTED.values(), repr(environment["ODD_TOKEN"])[1:-1]))
    assert "'HOME': '/home/me'" in said
    assert "'SHORT_TOKEN': '1'" in said


def test_an_address_with_a_password_is_hidden_and_arguments_too_and_other_messages_stay(caplog):
    address = "https://me:password@example.org/simple"
    assert logged(caplog, "index %s of %d", address, 2, environment={"PIP_INDEX_URL": address}) == "index *** of 2"
    assert logged(caplog, "rule %s", "score", environment=PLANTED) == "rule score"
