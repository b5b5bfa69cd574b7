"""Each result records what its step read, and a bundle's results lead back to its raw files."""

import argparse
import subprocess
from pathlib import Path

import pytest

from scripts.common.checksums import checksum_path
from scripts.common.cli import run_step
from scripts.common.errors import UserError
from scripts.common.files import atomic_folder, read_json, read_jsonl, write_json, write_jsonl, write_manifest
from scripts.deploy.provenance import check_chain
from scripts.workflow.lost_outputs import is_lost


def copy_rows(arguments) -> None:
    """Copy rows, and read a file that the command line does not name."""
    read_json(arguments.output.parent / "notes.json")
    write_jsonl(arguments.output, read_jsonl(arguments.source))


def make_model(arguments) -> None:
    """Make a folder with a manifest from the rows in a folder."""
    rows = list(read_jsonl(arguments.source / "rows.jsonl"))
    with atomic_folder(arguments.output) as folder:
        write_json(folder / "config.json", {"rows": len(rows)}, part=True)
        write_manifest(folder)


def run(step, source: Path, output: Path) -> None:
    """Run a step on a source as the workflow does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--output", type=Path)
    parser.set_defaults(log=None, gpus=None)
    assert run_step(step, parser, [str(source), "--output", str(output)]) == 0


@pytest.fixture
def chain(tmp_path):
    """A raw file, rows that were made from it, and the manifest of a model that was made from these."""
    raw, rows, model = tmp_path / "raw.jsonl", tmp_path / "rows/rows.jsonl", tmp_path / "model"
    raw.write_text('{"a": 1}\n')
    write_json(tmp_path / "rows/notes.json", {})
    run(copy_rows, raw, rows)
    run(make_model, rows.parent, model)
    return raw, rows, model / "manifest.json"


def test_sha256sum_checks_a_result_together_with_its_inputs(chain):
    raw, rows, _ = chain
    command = ["sha256sum", "--check", "--strict", checksum_path(rows).name]
    assert subprocess.run(command, cwd=rows.parent, check=True, capture_output=True).stdout.count(b": OK\n") == 2
    raw.write_text('{"a": 2}\n')
    assert subprocess.run(command, cwd=rows.parent, check=False, capture_output=True).returncode == 1


def test_a_model_leads_back_to_its_raw_file_as_long_as_nothing_on_the_way_changed(chain):
    raw, rows, manifest = chain
    check_chain([manifest], [raw])
    check_chain([manifest], [rows])  # a raw file may be the result of another project
    raw.write_text('{"a": 2}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: was made from .*raw\.jsonl, which has changed"):
        check_chain([manifest], [raw])
    run(copy_rows, raw, rows)
    with pytest.raises(UserError, match=r"manifest\.json: was made from .*rows\.jsonl, which has changed"):
        check_chain([manifest], [raw])
    raw.write_text('{"a": 1}\n')
    run(copy_rows, raw, rows)
    check_chain([manifest], [raw])


def test_a_missing_link_and_a_raw_file_that_nothing_was_made_from_are_named(chain, tmp_path):
    raw, rows, manifest = chain
    other = tmp_path / "other.jsonl"
    other.write_text("{}\n")
    with pytest.raises(UserError, match=r"other\.jsonl: nothing in this bundle was made from it"):
        check_chain([manifest], [raw, other])
    rows.unlink()
    with pytest.raises(UserError, match=r"manifest\.json: was made from .*rows\.jsonl, which is missing"):
        check_chain([manifest], [raw])


def test_an_output_is_lost_when_its_checksum_file_alone_is_there(chain):
    raw, rows, _ = chain
    assert not is_lost(str(rows))
    rows.unlink()
    assert is_lost(str(rows))
    assert not is_lost(str(raw.parent / "never.jsonl"))
