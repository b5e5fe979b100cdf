"""Compare one method with all others: paired differences, wins, an interval, and tests.

Two methods share a seed's images, so they are compared seed by seed; each seed has its own HM.
Tests over data sets are those of Demšar, Statistical Comparisons of Classifiers over Multiple Data
Sets (JMLR 7, 2006). Chance lies in the seeds for the interval, in the data sets for p.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from benchmark.report.cells import Cell, Table, figure, own
from benchmark.report.collect import Collected
from benchmark.report.comparison import averaged, columns_of, named, rows_of
from benchmark.report.metrics import Score, average, score
from benchmark.report.published import AVERAGE

ALPHA = 0.05
FEWEST = 6  # data sets of a p-value: with five, all of them won, p is 2 / 2^5 = 0.0625
RESAMPLES = 10_000
DIGITS = 9  # of a difference: what is smaller is rounding, and a tie
HEADER = ["minus", "in", "difference", "95% from", "to", "wins", "ties", "losses", "p", "p (Holm)"]
Gaps = dict[str, dict[str, list[Score]]]  # by column, method and data set: the paired differences


def comparisons(found: Collected, name: str) -> list[Table]:
    """Return the tables of a row minus each other: all in one, then data set by data set.

    There are none where the row, or any other next to it, has no results.
    """
    names, rows = averaged(found.protocol), {row.label: row for row in rows_of(found)}
    if name not in rows:
        return []
    mine, nothing, gaps = rows.pop(name), Score(None, {}, 0), {}
    for column in columns_of(found.protocol):
        for label, row in rows.items():
            sides = ([each.scores.get((n, column), nothing) for n in names] for each in (mine, row))
            own_gaps = [paired(*pair) for pair in zip(*sides, strict=True)]
            if any(gap.mean is not None for gap in own_gaps):
                gaps.setdefault(column, {})[label] = own_gaps
    if not gaps:
        return []
    title = f"{found.protocol.title}: {name} minus the others"
    summary = [line for column in gaps for line in _summary(named(column), gaps[column])]
    made = [Table(title, HEADER, summary, notes=_notes(gaps))]
    for column, by_label in gaps.items() if len(names) > 1 else ():
        lines = [[Cell(label), *map(own, [*g, average(g)])] for label, g in by_label.items()]
        heading = f"{title}, {named(column)} by data set"
        made.append(Table(heading, ["minus", *names, AVERAGE], lines))
    return made


def paired(one: Score, other: Score) -> Score:
    """Return the differences of two scores at the seeds that both have.

    What is planned once is not trained: its figure holds at every seed.
    """
    more = max(one, other, key=lambda each: each.planned)

    def at_seeds(each: Score) -> dict[int, float]:
        once = each.planned == 1 and len(each.by_seed) == 1
        return dict.fromkeys(more.by_seed, *each.by_seed.values()) if once else dict(each.by_seed)

    ours, theirs = at_seeds(one), at_seeds(other)
    common = [seed for seed in ours if seed in theirs]
    return score({seed: ours[seed] - theirs[seed] for seed in common}, more.planned)


def wilcoxon(differences: Sequence) -> float | None:
    """Return the two-sided p of the signed-rank test over data sets; None below FEWEST of them.

    The ranks of zeros are split evenly, as in Demšar. The distribution is exact, with ties or zeros
    for up to 13 data sets. `differences` are one per data set, or (data sets, B) for B values (B).
    """
    if len(differences) < FEWEST:
        return None
    with np.errstate(invalid="ignore"):  # all are zero: then p is 1
        return stats.wilcoxon(np.round(differences, DIGITS), zero_method="zsplit").pvalue


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method (1979)."""
    order = np.argsort(values, kind="stable")
    stepped = np.asarray(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return corrected.tolist()


def interval(strata: Sequence[Sequence[float]], resamples: int = RESAMPLES) -> np.ndarray | None:
    """Return both ends (2) of the 95% interval of the mean over data sets of means over seeds.

    A percentile bootstrap that draws seeds within each data set. With n seeds its variance is too
    small by (n - 1) / n, and few seeds call for Student's t: deviations are widened by both, with
    Welch's degrees of freedom (Hesterberg, What Teachers Should Know About the Bootstrap, 2015).

    Args:
        strata: each data set's values, one per seed, or (seeds, B) for B intervals (2, B).

    None where a data set has fewer than two seeds.
    """
    if min(map(len, strata)) < 2:
        return None
    values = [np.asarray(each, dtype=float) for each in strata]
    generator = np.random.default_rng(0)  # the same report prints the same interval
    drawn, errors = 0, []
    for each in values:
        n = len(each)
        shares = generator.multinomial(n, np.full(n, 1 / n), size=resamples) / n
        drawn = drawn + shares @ (each - each.mean(axis=0)) * np.sqrt(n / (n - 1))
        errors.append((each.var(axis=0, ddof=1) / n, n - 1))
    total = sum(error for error, _ in errors)
    with np.errstate(invalid="ignore", divide="ignore"):  # no deviation at all: a point
        freedom = total**2 / sum(error**2 / below for error, below in errors)
    student = stats.t.ppf(1 - ALPHA / 2, freedom) / stats.norm.ppf(1 - ALPHA / 2)
    ends = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2], axis=0) * np.where(total, student, 0)
    return (sum(each.mean(axis=0) for each in values) + ends) / len(values)


def _summary(column: str, by_label: dict[str, list[Score]]) -> list[list[Cell]]:
    """Return a line per method: its difference, interval, wins and p."""
    there = {label: [g for g in gaps if g.by_seed] for label, gaps in by_label.items()}
    values = {label: wilcoxon([g.mean for g in gaps]) for label, gaps in there.items()}
    tested = {label: p for label, p in values.items() if p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    lines = []
    for label, gaps in there.items():
        ends = interval([list(g.by_seed.values()) for g in gaps])
        signs = np.sign([round(g.mean, DIGITS) for g in gaps]).tolist()
        line = [Cell(label), Cell(column), own(average(by_label[label]))]
        both = (None, None) if ends is None else ends.tolist()
        line += [figure(end, "difference", "+.2f") for end in both]
        line += [figure(signs.count(sign), "count", ",") for sign in (1, 0, -1)]
        line += [figure(p, "p", ".4f") for p in (values[label], corrected.get(label))]
        lines.append(line)
    return lines


def _notes(gaps: Gaps) -> list[str]:
    """Return how to read the table, and why a p-value is missing."""
    fewest = min(sum(g.mean is not None for g in m) for c in gaps.values() for m in c.values())
    hm = " HM is each seed's and data set's own, then averaged." if "HM" in gaps else ""
    few = (
        f"No p-value with fewer than {FEWEST} data sets (here {fewest}): even if all five were "
        f"won, p would be {2 / 2**5}, above {ALPHA}."
    )
    return [
        "Points; mean ± standard deviation over the seeds that both have (number of seeds). "
        f"Wins, ties and losses count the data sets that both have.{hm}",
        "95%: stratified bootstrap over the seeds of these data sets, two or more of each.",
        "p: two-sided Wilcoxon signed-rank test over the data sets; Holm: corrected for the number "
        "of methods compared in the same column.",
    ] + [few] * (fewest < FEWEST)
