"""Fixtures of the tests of whole runs."""

import pytest

from tests.support.project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A small project whose every result is made."""
    project = Project.made_in(tmp_path_factory.mktemp("finished"))
    done = project.snakemake("--quiet", "host", "reason", "rules")
    assert done.returncode == 0, done.stdout
    return project
