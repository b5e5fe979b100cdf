"""Rank methods over data sets, and draw which of them do not differ significantly.

Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets (JMLR 7, 2006): Friedman's
test whether methods differ at all, then Nemenyi's critical difference of mean ranks.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from scipy import stats

from benchmark.report.canvas import INK, Drawing, panels
from benchmark.report.collect import Collected
from benchmark.report.comparison import averaged, rows_of
from benchmark.report.published import Key
from benchmark.report.significance import ALPHA, DIGITS

DATASETS, METHODS = 10, 5  # a diagram takes more than that


def ranking(
    shown: Mapping[str, tuple[Key, str, str]], group: Mapping[str, Collected]
) -> tuple[Drawing, str, str] | None:
    """Draw a diagram per protocol, each (key, title, label), where the numbers allow one."""
    figures = {n: complete(group[n], key[1]) for n, (key, *_) in shown.items() if n in group}
    figures = {name: own for name, own in figures.items() if allowed(own)}
    if not figures:
        return None
    drawing, all_axes = panels(len(figures), 7, 3.6, columns=1)
    for (name, own), axes in zip(figures.items(), all_axes, strict=True):
        axes.set_title(f"{shown[name][1]}: {shown[name][2]}")
        diagram(axes, own)
    caption = (
        "Mean rank over the data sets, 1 the best; a bar joins methods that Nemenyi's test at 0.05 "
        "does not tell apart. Friedman's test finds that the methods differ."
    )
    return drawing, next(iter(figures)), caption


def complete(found: Collected, column: str) -> dict[str, list[float]]:
    """Return each row's means over the seeds, of the rows that have all data sets."""
    figures = {}
    for row in rows_of(found):
        scores = [row.scores.get((name, column)) for name in averaged(found.protocol)]
        if all(score is not None and score.by_seed for score in scores):
            figures[row.label] = [fmean(score.by_seed.values()) for score in scores]
    return figures


def mean_ranks(figures: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return each method's rank, 1 the best, averaged over the data sets; ties share theirs."""
    ranks = stats.rankdata(-np.round(list(figures.values()), DIGITS), axis=0).mean(axis=1)
    return dict(zip(figures, ranks.tolist(), strict=True))


def critical_difference(methods: int, datasets: int) -> float:
    """Return by how much two mean ranks differ at least where Nemenyi's test tells them apart."""
    q = stats.studentized_range.ppf(1 - ALPHA, methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def allowed(figures: Mapping[str, Sequence[float]]) -> bool:
    """Return whether there is enough for a diagram, and whether Friedman's test finds a difference.

    There must be more than 10 data sets and 5 methods, Demšar's rule of thumb for this test.
    """
    values = np.round(list(figures.values()), DIGITS)
    if len(values) <= METHODS or values.shape[1] <= DATASETS or not np.ptp(values, axis=0).any():
        return False
    return bool(stats.friedmanchisquare(*values).pvalue < ALPHA)


def groups(ranks: Sequence[float], critical: float) -> list[tuple[float, float]]:
    """Return the longest spans of sorted ranks within which no two differ significantly."""
    ends = [max(other for other in ranks if other - rank < critical) for rank in ranks]
    longest = {end: rank for rank, end in reversed(list(zip(ranks, ends, strict=True)))}
    return sorted((rank, end) for end, rank in longest.items() if end > rank)


def diagram(axes: Axes, figures: Mapping[str, Sequence[float]]) -> None:
    """Draw the diagram: mean ranks on an axis, bars over what does not differ significantly."""
    ranks = sorted(mean_ranks(figures).items(), key=lambda item: item[1])
    k, half = len(ranks), (len(ranks) + 1) // 2
    critical = critical_difference(k, len(next(iter(figures.values()))))
    spans = groups([rank for _, rank in ranks], critical)
    line = {"color": INK, "linewidth": 1, "clip_on": False}
    below = 0.5 * len(spans) + 0.3
    for place, (label, rank) in enumerate(ranks):
        left = place < half
        edge, height = (0.7, place) if left else (k + 0.3, k - 1 - place)
        axes.plot([rank, rank, edge], [0, -below - height, -below - height], **line)
        words = f"{label} {rank:.2f} " if left else f" {rank:.2f} {label}"
        axes.text(edge, -below - height, words, ha="right" if left else "left", va="center")
    for level, span in enumerate(spans):
        axes.plot(span, [-0.5 * (level + 1)] * 2, **{**line, "linewidth": 4})
    axes.plot([1, 1 + critical], [1.6, 1.6], marker="|", **line)
    axes.text(1 + critical / 2, 1.8, f"critical difference {critical:.2f}", ha="center")
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.2], **line)
        axes.text(tick, 0.35, str(tick), ha="center")
    axes.plot([1, k], [0, 0], **line)
    axes.set(xlim=(1, k), ylim=(-below - half, 2.6))
    axes.axis("off")
