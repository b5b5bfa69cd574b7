"""How often the intervals of people's votes hold the truth, with few and many readers who are more or less lenient.

python -m tests.benchmarks.statistics.bench_votes --trials 1000
"""

import argparse
import math

import numpy as np
from scipy.special import ndtri

from scripts.score.intervals import interval
from tests.benchmarks.statistics.simulate import coverage, percent, print_table

OF_RECORDS = 0.3  # share of the variance of a vote's inclination that the text has
# Readers, votes on each record, and the share of the variance that readers have.
CELLS = [(1, 1, 0), (2, 1, 0), (2, 2, 0), (2, 2, 0.1), (6, 1, 0), (6, 2, 0), (6, 6, 0), (6, 2, 0.1), (6, 6, 0.1)]
CELLS += [(12, 2, 0.1)]


def votes(rng, readers: int, records: int, each: int, share: float, of_readers: float, of_records: float) -> list:
    """Return rows of votes; a vote is yes where text, reader and chance together incline to it enough."""
    inclination = rng.normal(size=(records, readers)) * math.sqrt(1 - of_readers - of_records)
    inclination += rng.normal(size=(records, 1)) * math.sqrt(of_records)
    inclination += rng.normal(size=readers) * math.sqrt(of_readers)
    given = np.argsort(rng.random((records, readers)), axis=1) < each
    table = np.stack([given & (inclination < ndtri(share)), given], axis=2).astype(int)
    return table.reshape(records, -1).tolist()


def rate(readers: int, each: int, of_readers: float, share: float, trials: int, records: int = 60, by=True) -> dict:
    """Return the coverage of a rate of `records` texts, `each` of which gets so many votes of so many readers.

    `by`: by the readers as well, from 5 on; else clustered by record only.
    """

    def draw(rng):
        table = votes(rng, readers, records, each, share, of_readers, OF_RECORDS)
        if not by:
            table = [[sum(row[0::2]), sum(row[1::2])] for row in table]
        return interval("votes", table, None, True)

    return coverage(draw, share, trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    lines = []
    for readers, each, of_readers in CELLS:
        for by in (True, False) if readers >= 5 and of_readers else (True,):
            for share in (0.5, 0.9):
                found = rate(readers, each, of_readers, share, trials, by=by)
                numbers = [percent(found["held"]), percent(found["above"]), f"{found['width']:.3f}"]
                lines.append([readers, each, of_readers, "yes" if by else "no", share, *numbers])
    header = ["readers", "votes on each of 60 texts", "variance of readers", "readers counted", "rate"]
    print_table("People's votes", [*header, "truth held, %", "interval above the truth, %", "mean width"], lines)


if __name__ == "__main__":
    main()
