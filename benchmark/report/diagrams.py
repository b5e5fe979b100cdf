"""Draw how far confidence can be trusted, and which classes are taken for which.

Results of older versions have no such figures and are left out.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmark.report.canvas import INK, Drawn, legend, looks_of, panels
from benchmark.report.collect import Found
from benchmark.report.results import LATER, Result

OTHER = "other"  # the section of runs of no protocol
DRAWN = 8  # of these
NAMED = 26  # classes of a confusion matrix that can be named on its axes
Bins = Mapping[str, np.ndarray]  # count, confidence and accuracy of each bin
Matrix = tuple[Sequence[str], np.ndarray]  # class names, counts (C, C): rows are labels


def reliability(group: Found) -> Drawn | None:
    """Draw accuracy over confidence for base and new classes, a line per row of the table."""
    grouped: dict[str, dict[str, list[Result]]] = {}
    for run, result in group["base2new"].runs if "base2new" in group else ():
        if result and "bins" in result.data:
            grouped.setdefault(run.classes, {}).setdefault(run.row, []).append(result)
    lines = {
        f"{classes} classes": {row: pooled(results) for row, results in rows.items()}
        for classes, rows in grouped.items()
    }
    about = "The images of all data sets and seeds are taken together."
    return _reliability(lines, "base2new", about) if lines else None


def reliability_of(others: Sequence[Result]) -> Drawn | None:
    """Draw the same for runs of no protocol, a line each."""
    shown = _shown(others)
    lines = {"runs of no protocol": {_name(result): pooled([result]) for result in shown}}
    return _reliability(lines, OTHER, "") if shown else None


def confusion(group: Found) -> Drawn | None:
    """Draw the confusion matrices of our method, a panel per data set and half of the classes."""
    found = group.get("base2new")
    label = list(found.asked.rows)[-1] if found else ""
    grouped: dict[str, list[Result]] = {}
    for run, result in found.runs if found else ():
        if result and run.row == label and "confusion" in result.data:
            grouped.setdefault(f"{run.dataset}, {run.classes}", []).append(result)
    matrices = {title: summed(results) for title, results in grouped.items()}
    about = f"Of {label}; the images of all seeds are taken together."
    return _confusion(matrices, "base2new", about) if matrices else None


def confusion_of(others: Sequence[Result]) -> Drawn | None:
    """Draw the confusion matrices of runs of no protocol, a panel each."""
    shown = _shown(others)
    matrices = {_name(result): summed([result]) for result in shown}
    return _confusion(matrices, OTHER, "") if shown else None


def _shown(others: Sequence[Result]) -> list[Result]:
    return [result for result in others if LATER.keys() <= result.data.keys()][:DRAWN]


def _name(result: Result) -> str:
    return f"{result.folder.parent.name}/{result.folder.name}"


def pooled(results: Iterable[Result]) -> Bins:
    """Return the bins of all images of several results."""
    sums = 0
    for result in results:
        rows = [(b["count"], b["confidence"] or 0, b["accuracy"] or 0) for b in result.data["bins"]]
        counts, *means = np.array(rows, dtype=float).T
        sums = sums + np.stack([counts, *(mean * counts for mean in means)])
    counts, confidence, accuracy = sums[:, sums[0] > 0]
    return {"count": counts, "confidence": confidence / counts, "accuracy": accuracy / counts}


def summed(results: Sequence[Result]) -> Matrix:
    """Return the confusion matrix of all images of results on the same classes."""
    names = [entry["class"] for entry in results[0].data["per_class"]]
    counts = np.zeros((len(names), len(names)))
    for result in results:
        for label, row in enumerate(result.data["confusion"]):
            for predicted, count in row.items():
                counts[label, int(predicted)] += count
    return names, counts


def _reliability(lines: Mapping[str, Mapping[str, Bins]], section: str, about: str) -> Drawn:
    drawing, all_axes = panels(len(lines), 4.4, 4.2, columns=2)
    given = looks_of(label for rows in lines.values() for label in rows)
    for (title, rows), axes in zip(lines.items(), all_axes, strict=True):
        axes.plot([0, 100], [0, 100], "--", color=INK, alpha=0.5, linewidth=1)
        for label, bins in rows.items():
            points, look = (bins["confidence"], bins["accuracy"]), given[label]
            share = bins["count"] / sum(bins["count"])
            axes.plot(*points, label=label, markersize=3, linewidth=1, **look)
            axes.scatter(*points, s=150 * share, alpha=0.7, clip_on=False, **look)
        axes.set(title=title, xlabel="mean confidence (%)", ylabel="accuracy (%)")
        axes.set(xlim=(0, 101), ylim=(0, 101), aspect="equal")
    legend(drawing, columns=3)
    caption = (
        "Reliability: accuracy against mean confidence in ten equally wide bins of confidence. "
        "Below the dashed line the model is surer than it is right. A marker is as large as the "
        "share of the images in its bin."
    )
    return drawing, section, f"{caption} {about}".strip()


def _confusion(matrices: Mapping[str, Matrix], section: str, about: str) -> Drawn:
    named = len(matrices) <= 2 and all(len(names) <= NAMED for names, _ in matrices.values())
    side = 7.0 if named else 4.0 if len(matrices) <= 2 else 2.6
    drawing, all_axes = panels(len(matrices), side, side, columns=1 if named else 6)
    for (title, (names, counts)), axes in zip(matrices.items(), all_axes, strict=True):
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, vmin=0, vmax=100, cmap="Blues", interpolation="nearest")
        axes.set(title=title, xlabel="predicted", ylabel="true class")
        axes.grid(False)
        if named:
            axes.set_xticks(range(len(names)), names, rotation=90, size=6)
            axes.set_yticks(range(len(names)), names, size=6)
    drawing.colorbar(image, ax=all_axes, aspect=40, label="share of images (%)").ax.grid(False)
    caption = "Confusion: for each true class, a row, what its images were taken for."
    return drawing, section, f"{caption} {about}".strip()
