"""Do the arithmetic of the tables: mean and deviation over seeds, averages, harmonic means.

The family's rules: accuracies are averaged over the seeds first, then over the data sets; the HM of
an average is that of the averages. Deviations are those of the seeds' own figures.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Score:
    """Hold one cell of a table, in percent.

    Attributes:
        mean: over the seeds found; None: nothing found.
        by_seed: each seed's own figure.
        planned: how many seeds there should be.
        parts: of an average, how many data sets were found, and how many there should be.
        least: of an average or an HM, how many seeds each of its parts has at least.
    """

    mean: float | None
    by_seed: Mapping[int, float]
    planned: int
    parts: tuple[int, int] = (1, 1)
    least: int | None = field(default=None, compare=False)

    @property
    def count(self) -> int:
        """Return the number of seeds found; the parts of an average need not have the same ones."""
        return len(self.by_seed) if self.least is None else self.least

    @property
    def std(self) -> float | None:
        """Return the sample standard deviation over the seeds; None for fewer than two."""
        values = list(self.by_seed.values())
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def partial(self) -> bool:
        """Return whether it is an average over some data sets only."""
        return self.parts[0] < self.parts[1]


def score(by_seed: Mapping[int, float], planned: int) -> Score:
    """Return the score of one data set."""
    values = list(by_seed.values())
    return Score(statistics.mean(values) if values else None, dict(by_seed), planned)


def harmonic_mean(base: float, new: float) -> float:
    """Return the HM of two accuracies; 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def harmonic(base: Score, new: Score) -> Score:
    """Return the HM of the means; by seed where both are there."""
    if base.mean is None or new.mean is None:
        return Score(None, {}, base.planned, base.parts)
    seeds = [seed for seed in base.by_seed if seed in new.by_seed]
    own = {seed: harmonic_mean(base.by_seed[seed], new.by_seed[seed]) for seed in seeds}
    least = min(base.count, new.count)
    return Score(harmonic_mean(base.mean, new.mean), own, base.planned, base.parts, least)


def average(scores: Sequence[Score]) -> Score:
    """Return the mean over data sets, of those found; by seed where a seed has them all."""
    found = [s for s in scores if s.mean is not None]
    parts = (len(found), len(scores))
    if not found:
        return Score(None, {}, scores[0].planned if scores else 0, parts)
    seeds = [seed for seed in found[0].by_seed if all(seed in s.by_seed for s in found)]
    own = {seed: statistics.mean(s.by_seed[seed] for s in found) for seed in seeds}
    mean, least = statistics.mean(s.mean for s in found), min(s.count for s in found)
    return Score(mean, own, found[0].planned, parts, least)
