"""Rows of base-to-new runs into a table: mean and standard deviation over the seeds."""

import statistics
from collections.abc import Mapping, Sequence

from tabulate import tabulate


def harmonic_mean(base: float, new: float) -> float:
    """HM of two accuracies; 0 where both are."""
    return 2 * base * new / (base + new) if base + new else 0.0


def summarise(rows: Sequence[Mapping]) -> list[dict]:
    """One entry a method, in order of appearance.

    The family's rule: accuracies are averaged over the seeds first, and the HM is that of the
    averages. Its deviation is that of the seeds' own HMs.
    """
    labels = list(dict.fromkeys(row["label"] for row in rows))
    return [_summary(label, [row for row in rows if row["label"] == label]) for label in labels]


def _summary(label: str, rows: Sequence[Mapping]) -> dict:
    base = [row["base"]["accuracy"] for row in rows]
    new = [row["new"]["accuracy"] for row in rows]
    own = [harmonic_mean(b, n) for b, n in zip(base, new, strict=True)]
    mean = harmonic_mean(statistics.mean(base), statistics.mean(new))
    seconds = [sum(sum(row[part]["seconds"].values()) for part in ("base", "new")) for row in rows]
    return {
        "method": label,
        "seeds": len(rows),
        "base": _mean_and_deviation(base),
        "new": _mean_and_deviation(new),
        "hm": {"mean": mean, "std": _deviation(own)},
        "trainable_parameters": rows[0]["base"]["trainable_parameters"],
        "seconds": statistics.mean(seconds),
    }


def _mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "std": _deviation(values)}


def _deviation(values: Sequence[float]) -> float:
    """Sample standard deviation; 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def format_table(summaries: Sequence[Mapping], style: str = "simple") -> str:
    """The table that people read; `style` is one of tabulate's, such as "github"."""
    header = ("method", "seeds", "base", "new", "HM", "parameters", "seconds")
    lines = [
        (
            entry["method"],
            entry["seeds"],
            *(f"{entry[k]['mean']:.2f} ± {entry[k]['std']:.2f}" for k in ("base", "new", "hm")),
            f"{entry['trainable_parameters']:,}",
            f"{entry['seconds']:.0f}",
        )
        for entry in summaries
    ]
    align = ("left", "right", "right", "right", "right", "right", "right")
    return tabulate(lines, header, tablefmt=style, colalign=align, disable_numparse=True)
