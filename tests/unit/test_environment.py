"""What a process says of the environment that it runs in."""

import json
import sys

from scripts.common.environment import container_image, kind_of_environment
from scripts.common.files import sha256_of


def test_a_venv_a_conda_environment_and_an_image_are_told_apart(tmp_path):
    nothing = tmp_path / "labels.json"
    assert kind_of_environment(sys.base_prefix, nothing) == "system"
    assert kind_of_environment(str(tmp_path), nothing) == "venv"
    (tmp_path / "conda-meta").mkdir()
    assert kind_of_environment(str(tmp_path), nothing) == "conda"
    nothing.write_text("{}")
    assert kind_of_environment(str(tmp_path), nothing) == "container"


def test_an_image_has_name_hash_and_labels(tmp_path, monkeypatch):
    labels, image = tmp_path / "labels.json", tmp_path / "images" / "score.sif"
    assert container_image(labels) is None
    labels.write_text(json.dumps({"version": "1.2"}))
    monkeypatch.setenv("APPTAINER_CONTAINER", str(image))
    assert container_image(labels) == {"name": "score.sif", "sha256": None, "labels": {"version": "1.2"}}
    image.parent.mkdir()
    image.write_bytes(b"image")
    assert container_image(labels)["sha256"] == sha256_of(image)
