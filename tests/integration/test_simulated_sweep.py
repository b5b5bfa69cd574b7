"""The simulated sweep has the jobs of a dry run, and a row of the table for each change of the cluster."""

import re

from tests.benchmarks.scale.simulate_cluster import main


def test_the_table_of_a_simulated_sweep_adds_up(tmp_path, capsys):
    place = tmp_path / "benchmarks/score/score_answers/captions.base.tsv"
    place.parent.mkdir(parents=True)
    place.write_text("s\th:m:s\n2.5\t0:00:02\n", encoding="utf-8")
    assert main(["--demo", str(tmp_path), "--runs", "3"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 9
    for row in rows:
        shares = [float(cell) for cell in re.findall(r"[\d.]+(?= \|)", row)][-7:]
        assert abs(sum(shares) - 100) < 0.5
        assert min(shares) >= 0
        assert shares[0] > 0
