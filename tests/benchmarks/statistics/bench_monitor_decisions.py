"""How often the monitor of production decides wrongly, asked after every call, and how many calls it needs.

python -m tests.benchmarks.statistics.bench_monitor_decisions --streams 10000
"""

import argparse
import functools
import random
from collections.abc import Callable

import numpy as np

from scripts.deploy.quality_monitor import (
    CAUTION,
    LIMIT,
    MEMORY,
    MOST_TOO_LONG,
    SEQUENCES,
    SETTINGS,
    SHRINK,
    WAITING,
    candidates,
)
from tests.benchmarks.statistics.simulate import print_table

DECISIONS = ("inconclusive", "switch", "keep", "rollback")
BLOCK = 500  # streams at once, so that a block stays in the cache of a CPU
# What a distribution draws: the repetition, the words and the failure of each call, arrays of [streams, calls].
Draw = Callable[[np.random.Generator, tuple[int, int]], tuple[np.ndarray, np.ndarray, np.ndarray]]


@functools.cache
def shuffled(texts: int) -> np.ndarray:
    """Return the order into which the monitor shuffles the waiting lengths after so many texts."""
    order = list(range(WAITING))
    random.Random(texts).shuffle(order)
    return np.array(order)


class Streams:
    """The sequences of many models at once: arrays of [streams, candidates] for `observe` of the monitor."""

    def __init__(self, streams: int) -> None:
        self.values = {name: np.array(values) for name, values in candidates(SETTINGS).items()}
        self.above = {name: np.zeros((streams, len(values))) for name, values in self.values.items()}
        self.below = {name: np.zeros((streams, len(values))) for name, values in self.values.items()}
        self.sums = {name: np.zeros((6, streams, 1)) for name in self.values}
        self.waiting = np.zeros((streams, WAITING))
        self.texts, self.too_long = np.zeros((2, streams), dtype=int)
        self.in_a_row = np.zeros(streams, dtype=int)
        self.most_in_a_row = np.zeros(streams, dtype=int)

    def observe(self, name: str, a: np.ndarray, b: np.ndarray, is_seen: np.ndarray) -> None:
        """Bet against each candidate, in the streams where `is_seen`; see the monitor's `observe`."""
        *_, most, is_one, is_squared = SEQUENCES[name]
        r = self.values[name] ** 2 if is_squared else self.values[name]
        a, b, is_seen = a[:, None], b[:, None], is_seen[:, None]
        weight, sum_a, sum_b, sum_aa, sum_ab, sum_bb = self.sums[name]
        total, squares = sum_a - r * sum_b, sum_aa - 2 * r * sum_ab + r * r * sum_bb
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = np.where((squares > 0) & is_seen, total / squares * weight / (weight + SHRINK), 0)
        gain = a - r * b
        for wealth, bet, loss in (
            (self.above[name], wanted, r),
            (self.below[name], -wanted, most - r if is_one else most),
        ):
            side = np.clip(bet, 0, CAUTION / loss)
            wealth += np.where(wealth < LIMIT, np.log1p(side * (gain if bet is wanted else -gain)), 0)
        seen = np.stack(np.broadcast_arrays(1.0, a, b, a * a, a * b, b * b))
        self.sums[name] = np.where(is_seen, self.sums[name] * (1 - 1 / MEMORY) + seen, self.sums[name])

    def add(self, repetition: np.ndarray, words: np.ndarray, failed: np.ndarray) -> None:
        """Count one call of each stream."""
        one = np.ones(len(failed))
        self.in_a_row = np.where(failed, self.in_a_row + 1, 0)
        self.most_in_a_row = np.maximum(self.most_in_a_row, self.in_a_row)
        self.observe("errors", failed.astype(float), one, one == 1)
        self.observe("repetition", repetition, one, ~failed)
        # Until a pair is drawn all lengths wait; from then on WAITING - 2 and WAITING - 1 of them by turns.
        place = np.where(self.texts < WAITING, self.texts, WAITING - 2 + self.texts % 2)
        self.waiting[~failed, place[~failed]] = np.minimum(words / SETTINGS["longest"], 1)[~failed]
        self.texts += ~failed
        self.too_long += ~failed & (words > SETTINGS["longest"])
        is_pair = ~failed & (place == WAITING - 1)
        if is_pair.any():
            orders = np.stack([shuffled(texts) for texts in self.texts[is_pair].tolist()])
            self.waiting[is_pair] = np.take_along_axis(self.waiting[is_pair], orders, axis=1)
            one, other = self.waiting[:, -1], self.waiting[:, -2]
            self.observe("length_variation", (one - other) ** 2 / 2, one * other, is_pair)

    def bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper bounds of each stream, [streams]; see the monitor's `interval`."""
        values = np.append(self.values[name], np.inf)
        low = np.minimum.accumulate(self.above[name] >= LIMIT, axis=1).sum(axis=1)
        high = np.minimum.accumulate(self.below[name][:, ::-1] >= LIMIT, axis=1).sum(axis=1)
        return np.append(0, self.values[name])[low], values[len(values) - 1 - high]

    def decided(self) -> np.ndarray:
        """Return the place of each stream's decision in DECISIONS, [streams]; see the monitor's `decide`."""
        (least, most), (narrow, wide) = self.bounds("repetition"), self.bounds("length_variation")
        limits = SETTINGS
        rollback = (self.most_in_a_row >= limits["errors_in_a_row"]) | (least >= limits["rollback_repetition"])
        rollback |= self.bounds("errors")[0] >= limits["most_errors"]
        is_clear = self.too_long <= MOST_TOO_LONG * self.texts
        keep = (least >= limits["most_repetition"]) | (wide <= limits["least_variation"]) & is_clear
        switch = (most <= limits["most_repetition"]) & (narrow >= limits["least_variation"])
        return np.select([rollback, keep, switch], [3, 2, 1], 0)


def simulated(draw: Draw, streams: int, calls: int, seed: int = 0) -> np.ndarray:
    """Return the call of each stream's first decision of each kind (inf: none), [streams, kinds]."""
    found = []
    for block in range(0, streams, BLOCK):
        size = min(BLOCK, streams - block)
        rng = np.random.default_rng([seed, block])
        repetition, words, failed = draw(rng, (size, calls))
        state, first = Streams(size), np.full((size, len(DECISIONS)), np.inf)
        for call in range(calls):
            state.add(repetition[:, call], words[:, call], failed[:, call])
            decided = state.decided()
            places = np.arange(size)
            first[places, decided] = np.minimum(first[places, decided], call + 1)
        found.append(first)
    return np.concatenate(found)


def beta(rng: np.random.Generator, shape: tuple, mean: float, spread: float) -> np.ndarray:
    """Return shares with a mean and a standard deviation."""
    size = mean * (1 - mean) / spread**2 - 1
    return rng.beta(mean * size, (1 - mean) * size, shape)


def gamma(rng: np.random.Generator, shape: tuple, mean: float, variation: float) -> np.ndarray:
    """Return whole lengths with about a mean and a variation."""
    return np.maximum(rng.gamma(1 / variation**2, mean * variation**2, shape).round(), 1)


def model(
    mean: float,
    spread: float = 0.1,
    words: float = 30,
    variation: float = 0.4,
    errors: float = 0.0,
    two_lengths: tuple | None = None,
    two_repetitions: bool = False,
    burst: int = 1,
) -> Draw:
    """Return a model's distribution. `two_lengths`: (one, the other, share of the other), for an exact variation.

    Of a `burst` of answers that are computed at the same time, the shortest is logged first.
    """

    def draw(rng: np.random.Generator, shape: tuple) -> tuple:
        repetition = (rng.random(shape) < mean).astype(float) if two_repetitions else beta(rng, shape, mean, spread)
        if two_lengths:
            one, other, share = two_lengths
            lengths = np.where(rng.random(shape) < share, other, one).astype(float)
        else:
            lengths = gamma(rng, shape, words, variation)
        lengths = np.sort(lengths.reshape(shape[0], -1, burst), axis=2).reshape(shape)
        return repetition, lengths, rng.random(shape) < errors

    return draw


def rare_long(variation: float, one: int = 20, other: int = 200) -> tuple:
    """Return lengths of which few are long, with a variation: (one, the other, share of the other)."""
    low, high = 0.0, 0.01
    for _ in range(100):
        share = (low + high) / 2
        found = (share * (1 - share)) ** 0.5 * (other - one) / (one + share * (other - one))
        low, high = (share, high) if found < variation else (low, share)
    return one, other, share


# At the thresholds, with the decisions that are false there.
AT_THRESHOLDS = {
    "repetition 0.25": (model(0.25), (1, 2, 3)),
    "repetition 0.25, of 0 or 1": (model(0.25, two_repetitions=True), (1, 2, 3)),
    "repetition 0.35": (model(0.35), (1, 3)),
    "repetition 0.35, of 0 or 1": (model(0.35, two_repetitions=True), (1, 3)),
    "variation 0.15, lengths 17 and 23": (model(0.05, two_lengths=(17, 23, 0.5)), (1, 2, 3)),
    "variation 0.15, lengths 148 and 200": (model(0.05, two_lengths=(200 * 0.85 / 1.15, 200, 0.5)), (1, 2, 3)),
    "variation 0.15, lengths 20 and rarely 200": (model(0.05, two_lengths=rare_long(0.15)), (1, 2, 3)),
    "variation 0.15, lengths 148 and 200, sorted bursts of 8": (
        model(0.05, two_lengths=(200 * 0.85 / 1.15, 200, 0.5), burst=8),
        (1, 2, 3),
    ),
    "5 % errors": (model(0.05, errors=0.05), (2, 3)),
    "repetition 0.25, variation 0.15, 5 % errors": (model(0.25, two_lengths=(17, 23, 0.5), errors=0.05), (1, 2, 3)),
}
TYPICAL = {
    "repetition 0.05, 30 words, variation 0.4": model(0.05, 0.05),
    "repetition 0.15, 30 words, variation 0.4": model(0.15),
    "repetition 0.05, 30 words, variation 0.25": model(0.05, 0.05, variation=0.25),
    "repetition 0.05, 15 words, variation 0.4": model(0.05, 0.05, words=15),
    "repetition 0.05, 30 words, variation 0.4, sorted bursts of 8": model(0.05, 0.05, burst=8),
    "repetition 0.05, 100 words, variation 0.3": model(0.05, 0.05, words=100, variation=0.3),
    "repetition 0.05, 100 words, variation 0.3, sorted bursts of 8": model(
        0.05, 0.05, words=100, variation=0.3, burst=8
    ),
    "repetition 0.3": model(0.3),
    "repetition 0.45": model(0.45, 0.2),
    "repetition 0.6": model(0.6, 0.2),
    "20 % errors": model(0.05, 0.05, errors=0.2),
    "100 words, variation 0.05": model(0.05, 0.05, words=100, variation=0.05),
}


def main() -> None:
    """Print the shares of false alarms and the calls until a decision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=1000)
    streams, calls = parser.parse_args().streams, parser.parse_args().calls
    lines = []
    for name, (draw, false) in AT_THRESHOLDS.items():
        first = simulated(draw, streams, calls) < np.inf
        each = [f"{100 * first[:, place].mean():.2f}" if place in false else "true" for place in (1, 2, 3)]
        lines.append([name, *each, f"{100 * first[:, false].any(axis=1).mean():.2f}"])
    title = f"At the thresholds, asked after each of {calls} calls, {streams} streams"
    print_table(title, ["truth", "switch, %", "keep, %", "rollback, %", "false in all, %"], lines)
    lines = []
    for name, draw in TYPICAL.items():
        first = simulated(draw, min(streams, 500), 3 * calls)
        final = [place for place in (1, 2, 3) if (first[:, place] < np.inf).mean() > 0.5]
        for place in final:
            spread = np.quantile(first[:, place], [0.5, 0.9, 0.99], method="higher")
            lines.append([name, DECISIONS[place], *(f"{value:.0f}" for value in spread)])
        if not final:
            lines.append([name, "inconclusive", "–", "–", "–"])
    print_table("Calls until the decision", ["model", "decision", "median", "90 %", "99 %"], lines)


if __name__ == "__main__":
    main()
