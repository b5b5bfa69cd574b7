"""What failed jobs said last, from Snakemake's log and theirs."""

from scripts.common.last_words import last_word, last_words

REPORT = """Error in rule train_adapter:
    message: None
    jobid: 7
    output: results/runs/x/adapter/manifest.json
    log: {log} (check log file(s) for error details)
    shell:
        python train.py --log {log}

        (command exited with non-zero exit code)
"""
QUIET = (
    "CalledProcessError in file \"x.smk\", line 3:\nCommand 'set -e;\n  python a.py --log {log} \\\n  --to b' {end}\n"
)
FAULT = "2026-11-20 10:00:00,123 INFO reads\n2026-11-20 10:00:01,456 ERROR data.jsonl:3: is bad\nmend it\n"


def test_a_fault_is_said_with_all_its_lines(tmp_path):
    log, own = tmp_path / "snakemake.log", tmp_path / "job.log"
    own.write_text(FAULT)
    log.write_text(REPORT.format(log=own))
    assert last_words([log]) == {str(own): "data.jsonl:3: is bad\nmend it"}


def test_a_fault_is_found_under_quiet_too(tmp_path):
    log, own = tmp_path / "snakemake.log", tmp_path / "job.log"
    own.write_text(FAULT)
    for end in ("returned non-zero exit status 1.", "died with <Signals.SIGKILL: 9>."):
        log.write_text(QUIET.format(log=own, end=end))
        assert list(last_words([log])) == [str(own)]


def test_a_job_that_was_tried_again_and_finished_has_no_last_word(tmp_path):
    log, own = tmp_path / "snakemake.log", tmp_path / "job.log"
    own.write_text("2026-11-20 10:00:00,123 INFO reads\n")
    log.write_text(REPORT.format(log=own) + "Finished jobid: 7 (Rule: train_adapter)\n")
    assert last_words([log]) == {}
    log.write_text(REPORT.format(log=own) + "Finished jobid: 77 (Rule: train_adapter)\n")
    assert list(last_words([log])) == [str(own)]


def test_a_killed_job_is_said_to_be_killed(tmp_path):
    (tmp_path / "job.log").write_text("2026-11-20 10:00:00,123 INFO reads\n")
    assert "killed" in last_word(tmp_path / "job.log")
    (tmp_path / "empty.log").touch()
    # Python itself may have failed, in an environment without what the step imports.
    assert "killed, or could not start" in last_word(tmp_path / "empty.log")
    assert "before it began its log" in last_word(tmp_path / "none.log")


def test_a_fault_of_a_step_is_its_error_and_not_its_traceback(tmp_path):
    log = tmp_path / "job.log"
    text = (
        "this is a fault of the step, not of the input\nTraceback (most recent call last):\n  File x\nKeyError: 'a'\n"
    )
    log.write_text(f"2026-11-20 10:00:00,123 ERROR {text}")
    assert last_word(log) == "KeyError: 'a'"
