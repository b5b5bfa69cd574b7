"""Tokens of the environment reach the jobs of a cluster and are in no file that they leave."""

from tests.integration.test_secrets import HEAD, LEDGER, SCRIPT, no_token
from tests.support.secrets import PLANTED, traces

SLURM = ("--executor", "slurm", "--slurm-no-account", "--slurm-status-command", "squeue", "--jobs", "2")


def test_slurm_jobs_get_the_tokens_and_leave_none(finished, slurm, tmp_path):
    project = finished.copy(tmp_path / "project")
    says = "    __import__('logging').info('token: %d', len(__import__('os').environ['HF_TOKEN']))\n"
    with project.edited(SCRIPT, lambda text: text.replace(HEAD, HEAD + says, 1)):
        waits = ("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2")
        options = (LEDGER, *SLURM, *waits, "--slurm-keep-successful-logs", "--printshellcmds", "--verbose")
        done = project.snakemake(*options, environment={**slurm.environment, **PLANTED})
    assert done.returncode == 0, done.stdout
    log = project.folder / "results/logs/dataset/write_dataset_ledger/cards.log"
    assert f"token: {len(PLANTED['HF_TOKEN'])}" in log.read_text(encoding="utf-8")
    assert list((project.folder / ".snakemake" / "slurm_logs").rglob("*.log"))
    assert no_token(done.stdout)
    assert traces(project.folder) == []
