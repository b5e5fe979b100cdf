"""The figures of the report, as PNG and SVG. Colours are Okabe and Ito's, with markers beside them.

Own runs are drawn with full lines and filled markers, published figures with dotted lines and
hollow markers.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from benchmark.curves import loss_curves, prompt_magnitudes
from benchmark.published import entries, parameters
from benchmark.results import Collected
from benchmark.table_base2new import base2new_rows
from benchmark.table_few_shot import few_shot_average

# Okabe and Ito without black, which is the ink, and yellow, which white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^vPX*<>h"  # eleven, so that with six colours 66 pairs are different
INK = "#0a0b0c"  # in a page it becomes the colour of its text, light or dark
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "figures",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
SHARED, UNSHARED = "+ shared up-projection", "+ drift correction"


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its file name, a caption that says what is measured, and the SVG."""

    name: str
    caption: str
    svg: str


def draw_all(found: Sequence[Collected], folder: Path) -> list[Figure]:
    """All figures that there are runs for, written to FOLDER/<name>.png and .svg."""
    makers: list[Callable[[Collected], tuple[Drawing, str] | None]] = [
        few_shot_curves,
        hm_against_parameters,
        prompt_magnitude,
        training_curves,
    ]
    figures = []
    with plt.rc_context(STYLE):
        for collected in found:
            for maker in makers:
                drawn = maker(collected)
                if drawn:
                    demo = "_demo" if collected.protocol.demo else ""
                    name = f"{collected.protocol.name}{demo}_{maker.__name__}"
                    figures.append(_write(folder, name, *drawn))
    return figures


def _write(folder: Path, name: str, drawing: Drawing, caption: str) -> Figure:
    folder.mkdir(parents=True, exist_ok=True)
    svg = io.StringIO()
    drawing.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight")
    drawing.savefig(folder / f"{name}.png", dpi=150, facecolor="white", bbox_inches="tight")
    plt.close(drawing)
    (folder / f"{name}.svg").write_text(svg.getvalue(), encoding="utf-8")
    return Figure(name, caption, svg.getvalue())


def _looks(count: int) -> list[dict]:
    """A colour and a marker for each of so many lines; no two lines share both."""
    colours, markers = cycle(COLOURS), cycle(MARKERS)
    return [{"color": next(colours), "marker": next(markers)} for _ in range(count)]


def _axes(width: float = 6.0, height: float = 3.8, columns: int = 1) -> tuple[Drawing, Axes]:
    drawing, axes = plt.subplots(1, columns, figsize=(width, height), layout="constrained")
    for axis in axes if columns > 1 else [axes]:
        axis.grid(True)
    return drawing, axes


def _legend(drawing: Drawing, axes: Axes, columns: int = 3) -> None:
    """Below the axes, where it hides no line."""
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside lower center", ncols=columns)


def few_shot_curves(found: Collected) -> tuple[Drawing, str] | None:
    """Accuracy over the shots, averaged over the data sets."""
    if found.protocol.table != "few_shot":
        return None
    datasets = found.protocol.train.datasets
    drawing, axes = _axes()
    averages = few_shot_average(found, datasets)
    theirs = [] if found.protocol.demo else entries("few_shot")
    looks = iter(_looks(len(averages) + len(theirs)))
    for label, by_shots in averages.items():
        points = [(k, s) for k, s in sorted(by_shots.items()) if s.mean is not None]
        look = next(looks)
        if not points:
            continue
        shots, means = [k for k, _ in points], [s.mean for _, s in points]
        if shots == [0]:  # nothing is learned: a level
            axes.axhline(means[0], color=look["color"], linestyle="--", label=label)
            continue
        axes.errorbar(shots, means, [s.std or 0 for _, s in points], capsize=3, label=label, **look)
    for entry in theirs:
        look, label = next(looks), f"{entry.method} (published)"
        if list(entry.average) == ["0"]:
            axes.axhline(entry.average["0"], color=look["color"], linestyle=":", label=label)
            continue
        shots, means = [int(k) for k in entry.average], list(entry.average.values())
        how = {"linestyle": ":", "markerfacecolor": "none", **look}
        axes.plot(shots, means, label=label, **how)
    axes.set_xscale("log", base=2)
    axes.set_xticks(found.protocol.shots, [str(k) for k in found.protocol.shots])
    axes.set_xlabel("training images per class")
    axes.set_ylabel("accuracy, all classes (%)")
    _legend(drawing, axes)
    found_of = [d for d in datasets if any(s.mean for c, s in found.scores.items() if c[1] == d)]
    return drawing, (
        f"Few-shot classification, average over {len(found_of)} of {len(datasets)} data sets"
        f"{'' if len(found_of) > 1 else f' ({found_of[0]})'}; bars: standard deviation over the "
        "seeds, dashed: nothing is learned."
    )


def hm_against_parameters(found: Collected) -> tuple[Drawing, str] | None:
    """HM over the number of trainable parameters, on a logarithmic axis."""
    protocol = found.protocol
    if protocol.table != "base2new" or protocol.varies:
        return None
    drawing, axes = _axes()
    rows = base2new_rows(found)
    theirs = [] if protocol.demo else [e for e in entries("base2new") if e.method in parameters()]
    looks = iter(_looks(len(rows) + len(theirs)))
    for row in rows:
        hm = row.average(protocol.train.datasets)[2]
        look, size = next(looks), found.parameters.get(row.label)
        if hm.mean is None:
            continue
        if size == 0:
            axes.axhline(hm.mean, color=look["color"], linestyle="--", label=row.label)
            continue
        how = {"linestyle": "none", "capsize": 3, **look}
        axes.errorbar([size], [hm.mean], [hm.std or 0], label=row.label, **how)
    for entry in theirs:
        how = {"linestyle": "none", "markerfacecolor": "none", **next(looks)}
        name = f"{entry.method} (published)"
        axes.plot([parameters()[entry.method]], [entry.average[2]], label=name, **how)
    axes.set_xscale("log")
    axes.set_xlabel("trainable parameters")
    axes.set_ylabel("HM of base and new accuracy (%)")
    _legend(drawing, axes)
    return drawing, (
        "HM of the averages against the number of trainable parameters (at the widths of the "
        "backbone used); bars: standard deviation over the seeds, dashed: nothing is trained."
    )


def prompt_magnitude(found: Collected) -> tuple[Drawing, str] | None:
    """Norm of the prompts by layer, with and without the shared up-projection."""
    if found.protocol.name != "ablation_components":
        return None
    by_row = {label: _magnitudes(found, label) for label in (UNSHARED, SHARED)}
    if not all(by_row.values()):
        return None
    drawing, both = _axes(7.2, 3.4, columns=2)
    names = {UNSHARED: "U of each tower", SHARED: "shared U"}
    for axes, tower in zip(both, ("text", "vision"), strict=True):
        for (label, runs), look in zip(by_row.items(), _looks(2), strict=True):
            layers = list(zip(*(run[tower] for run in runs), strict=True))
            means = [sum(layer) / len(layer) for layer in layers]
            depth = range(1, len(layers) + 1)
            axes.plot(depth, means, label=names[label], **look)
            lows, highs = [min(layer) for layer in layers], [max(layer) for layer in layers]
            axes.fill_between(depth, lows, highs, color=look["color"], alpha=0.2, linewidth=0)
        axes.set_xlabel("layer")
        axes.set_ylabel("mean L2 norm of the prompts")
        axes.set_title(f"{tower} tower")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(drawing, both[0])
    return drawing, (
        "Prompt magnitude by layer: the L2 norm of each prompt vector that is put in at the input "
        "of a layer, averaged over the prompt tokens and over the runs; shaded: from the smallest "
        "to the largest run. Our measure: the paper's figure is not known in detail."
    )


def _magnitudes(found: Collected, label: str) -> list[dict[str, list[float]]]:
    trained = [result for run, result in found.runs if run.trains and run.row == label and result]
    measured = [prompt_magnitudes(result.folder) for result in trained]
    return [magnitudes for magnitudes in measured if magnitudes]


def training_curves(found: Collected) -> tuple[Drawing, str] | None:
    """Every term of the loss over the epochs, of the protocol's own method."""
    if found.protocol.table != "base2new" or found.protocol.varies:
        return None
    label = list(found.protocol.rows)[-1]
    trained = [(run, result) for run, result in found.runs if run.trains and run.row == label]
    run = next((run for run, result in trained if result), None)
    if run is None:
        return None
    curves = loss_curves(dict((r, result) for r, result in trained)[run].folder)
    if not curves:
        return None
    drawing, axes = _axes()
    for (name, values), look in zip(curves.items(), _looks(len(curves)), strict=True):
        size = {"markersize": 4, "linewidth": 2 if name == "loss" else 1.2}
        axes.plot(list(values), list(values.values()), label=name, **size, **look)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean over the epoch")
    _legend(drawing, axes)
    return drawing, (
        f"Training of {label} on {run.dataset}, {run.shots} shots, seed {run.seed}: the loss and "
        "each of its terms, weighted as they enter it."
    )
