"""Draw the figures of the paper, and the training curves.

Our runs have full lines and filled markers, published figures dotted lines and hollow markers. A
figure is drawn where there are runs for it, on real data or on the demo world.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator, NullFormatter, ScalarFormatter

from benchmark.report.canvas import INK, STYLE, Drawn, Figure, legend, looks_of, panels, write
from benchmark.report.collect import Collected, Found
from benchmark.report.comparison import UNTRAINED, Row, averaged, entries_of, rows_of
from benchmark.report.critical_difference import ranking
from benchmark.report.curves import loss_curves, up_projection
from benchmark.report.diagrams import OTHER, confusion, confusion_of, reliability, reliability_of
from benchmark.report.metrics import Score
from benchmark.report.published import AVERAGE, Key, parameters
from benchmark.report.results import Result

PARAMETERS = {  # protocol of each panel of figure 1: what it shows, title, label
    "base2new": ((AVERAGE, "HM"), "Base-to-new", "HM of base and new accuracy (%)"),
    "few_shot": ((AVERAGE, "16"), "Few-shot, 16 shots", "accuracy, all classes (%)"),
}


def draw_all(
    found: Sequence[Collected],
    folder: Path,
    names: Sequence[str] = (),
    others: Sequence[Result] = (),
) -> list[Figure]:
    """Draw figures into FOLDER/<name>.png and .svg, on the demo world <name>_demo.

    Args:
        found: protocols with what was found of them.
        folder: of the files.
        names: of DRAWINGS; without any all that there are runs for.
        others: results of no protocol, whose figures are called <name>_other.
    """
    figures = []
    with plt.rc_context(STYLE):
        for demo in (False, True):
            group = {c.asked.name: c for c in found if c.protocol.demo == demo}
            for name in names or DRAWINGS:
                drawn = DRAWINGS[name][0](group)
                if drawn:
                    figures.append(write(folder, name + "_demo" * demo, *drawn))
        for name, draw in (("reliability", reliability_of), ("confusion", confusion_of)):
            drawn = draw(others)
            if drawn:
                figures.append(write(folder, f"{name}_{OTHER}", *drawn))
    return figures


def trade_off(costs: Sequence[str], group: Found) -> Drawn | None:
    """Draw accuracy against costs, of COSTS: base-to-new, and few-shot at 16 shots."""
    rows = {name: rows_of(group[name]) for name in PARAMETERS if name in group}
    rows = {name: own for name, own in rows.items() if _has_scores(own, [PARAMETERS[name][0]])}
    trainings = [r.data for name in rows for run, r in group[name].runs if r and run.trains]
    if not rows or (len(costs) > 1 and not trainings):
        return None
    shown = [(name, cost) for name in rows for cost in costs]
    drawing, all_axes = panels(len(shown), 5.2, 4.2, columns=max(len(costs), 2))
    given = looks_of(row.label for own in rows.values() for row in own)
    for (name, cost), axes in zip(shown, all_axes, strict=True):
        key, title, label = PARAMETERS[name]
        axes.set(xscale="log", title=title, xlabel=cost, ylabel=label, autoscalex_on=False)
        axes.margins(y=0.14)
        if cost == costs[0]:
            _published_points(axes, group[name], key)
            room = 3
        else:
            room = 1.5
            axes.xaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
        _own_points(axes, group[name], rows[name], key, COSTS[cost], given)
        low, high = axes.dataLim.intervalx  # one point alone has no width
        some = 0 < low <= high < float("inf")
        axes.set_xlim(*((low / room, high * room) if some else (1e3, 1e7)))
    legend(drawing, columns=5)
    caption = (
        f"Accuracy against {', '.join(costs)}; averages over the data sets. Filled: "
        "our runs, bars: standard deviation over the seeds, dashed: nothing is trained. Hollow: "
        "published, at the published number of parameters."
    )
    if len(costs) > 1:
        devices = " and ".join(sorted({data["device"] for data in trainings}))
        caption += (
            f" Seconds and memory: means over the trainings that had a process each, on {devices}."
        )
    return drawing, next(iter(rows)), caption


def _has_scores(rows: Sequence[Row], keys: Sequence[Key]) -> bool:
    scores = [row.scores.get(key) for row in rows for key in keys]
    return any(score is not None and score.mean is not None for score in scores)


def _published_points(axes: Axes, found: Collected, key: Key) -> None:
    for entry in entries_of(found.protocol):
        method = entry["method"]
        if method in parameters() and key in entry["figures"]:
            point = (parameters()[method][0], entry["figures"][key])
            look = {"color": INK, "markerfacecolor": "none", "markersize": 5, "alpha": 0.7}
            axes.plot(*point, "o", zorder=4, **look)
            word = {"textcoords": "offset points", "ha": "center", "size": 7, "alpha": 0.7}
            axes.annotate(method, point, (0, 5), **word)


def _measured(read: Callable, found: Collected, label: str) -> float | None:
    """Return what a row's trainings took on average, of those that had a process each."""
    values = [
        read(result.data)
        for run, result in found.runs
        if run.trains and (run.row, run.shots) == (label, 16) and result
        if "together" not in result.data
    ]
    return fmean(values) if values else 0 if found.parameters.get(label) == 0 else None


COSTS: dict[str, Callable[[Collected, str], float | None]] = {  # of a row, by the axis' label
    "trainable parameters": lambda found, label: found.parameters.get(label),
    "seconds of training": partial(_measured, lambda data: data["seconds"]["training"]),
    "peak memory of training (MB)": partial(_measured, lambda data: data["peak_memory_mb"]),
}


def _own_points(
    axes: Axes,
    found: Collected,
    rows: Sequence[Row],
    key: Key,
    cost: Callable,
    given: Mapping[str, dict],
) -> None:
    for row in rows:
        score, size, look = row.scores.get(key), cost(found, row.label), given[row.label]
        if score is None or score.mean is None or size is None:
            continue
        if size == 0:
            axes.axhline(score.mean, color=look["color"], linestyle="--", label=row.label)
        else:
            how = {"linestyle": "none", "capsize": 3, "zorder": 3, **look}
            axes.errorbar([size], [score.mean], [score.std or 0], label=row.label, **how)


def figure3_up_projection(group: Found) -> Drawn | None:
    """Draw |U| of our method as a heat map, layers by tokens: each data set, and their mean."""
    maps: dict[str, list[torch.Tensor]] = {}
    for run, result in group["base2new"].trainings() if "base2new" in group else ():
        up = up_projection(result.folder)
        if up is not None:
            maps.setdefault(run.dataset, []).append(up)
    if not maps:
        return None
    means = {name: torch.stack(ups).mean(dim=0) for name, ups in maps.items()}
    if len(means) > 1:
        means["mean"] = torch.stack(list(means.values())).mean(dim=0)
    drawing, all_axes = panels(len(means), 1.7, 2.6, columns=6)
    top = max(float(up.max()) for up in means.values())
    for (name, up), axes in zip(means.items(), all_axes, strict=True):
        edges = (0.5, up.shape[1] + 0.5, 0.5, up.shape[0] + 0.5)
        how = {"vmin": 0, "vmax": top, "aspect": "auto", "origin": "lower", "extent": edges}
        image = axes.imshow(up.numpy(), **how)
        axes.set(title=name, xlabel="token", ylabel="layer")
        axes.grid(False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
    drawing.colorbar(image, ax=all_axes, label="norm of U over the rank").ax.grid(False)
    caption = (
        "Magnitude of U, the up-projection that both towers share, by layer and prompt token: its "
        f"norm over the rank, mean over the seeds (up to {max(map(len, maps.values()))})."
    )
    return drawing, "base2new", caption


def few_shot_curves(name: str, group: Found) -> Drawn | None:
    """Draw accuracy over the shots: the average, and a panel per data set."""
    found = group.get(name)
    rows = rows_of(found) if found else []
    shots = [str(k) for k in found.protocol.shots] if found else []
    if not _has_scores(rows, [(AVERAGE, k) for k in shots]):
        return None
    names = averaged(found.protocol)
    parts = [AVERAGE, *names] if len(names) > 1 else names
    drawing, all_axes = panels(len(parts), *((2.9, 2.4) if len(parts) > 1 else (6, 3.8)), columns=4)
    for part, axes in zip(parts, all_axes, strict=True):
        _curves(axes, found, rows, part)
        axes.set(title=part, xlabel="training images per class")
        axes.set_xscale("log", base=2)
        axes.set_xticks([int(k) for k in shots], shots)
    for axes in all_axes[::4]:
        axes.set_ylabel("accuracy, all classes (%)", size=8)
    legend(drawing, columns=5 if len(parts) > 1 else 3)
    caption = (
        f"{found.protocol.title}. Filled: our runs, bars: standard deviation over the seeds; "
        "hollow: published; horizontal lines: nothing is trained."
    )
    return drawing, name, caption


def _curves(axes: Axes, found: Collected, rows: Sequence[Row], part: str) -> None:
    published = {f"{e['method']} (published)": e["figures"] for e in entries_of(found.protocol)}
    given = looks_of([*(row.label for row in rows), *published])
    for row in rows:
        known = {int(k): s for (name, k), s in row.scores.items() if name == part}
        known = {k: s for k, s in sorted(known.items()) if s.mean is not None}
        how = {"linestyle": "-", "zorder": 3, "markersize": 5}
        _curve(axes, known, row.label, {**how, **given[row.label]})
    for label, values in published.items():
        known = {int(k): Score(v, {}, 0) for (name, k), v in values.items() if name == part}
        how = {"linestyle": ":", "linewidth": 1, "markersize": 4, "markerfacecolor": "none"}
        _curve(axes, known, label, {**how, **given[label]})


def _curve(axes: Axes, known: Mapping[int, Score], label: str, look: dict) -> None:
    if int(UNTRAINED) in known:
        style = {"color": look["color"], "linestyle": "--" if look["linestyle"] == "-" else ":"}
        axes.axhline(known[int(UNTRAINED)].mean, label=label, **style)
    elif known:
        means, bars = [s.mean for s in known.values()], [s.std or 0 for s in known.values()]
        bars = bars if any(bars) else None
        axes.errorbar(list(known), means, bars, capsize=2, label=label, **look)


def training_curves(group: Found) -> Drawn | None:
    """Draw every term of our method's loss over the epochs of one training."""
    trainings = group["base2new"].trainings() if "base2new" in group else []
    curves = loss_curves(trainings[0][1].folder) if trainings else {}
    if not curves:
        return None
    drawing, (axes,) = panels(1, 6.0, 3.8, columns=1)
    given = looks_of(curves)
    for name, values in curves.items():
        size = {"markersize": 4, "linewidth": 2 if name == "loss" else 1.2}
        axes.plot(list(values), list(values.values()), label=name, **size, **given[name])
    axes.set(yscale="log", xlabel="epoch", ylabel="mean over the epoch")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(drawing, columns=3)
    run = trainings[0][0]
    caption = (
        f"Training of {run.row} on {run.dataset}, {run.shots} shots, seed {run.seed}: the loss and "
        "each of its terms, weighted as they enter it."
    )
    return drawing, "base2new", caption


# How each figure is drawn, and the protocols that it shows.
DRAWINGS: dict[str, tuple[Callable[[Found], Drawn | None], tuple[str, ...]]] = {
    "figure1_parameters": (partial(trade_off, list(COSTS)[:1]), tuple(PARAMETERS)),
    "figure3_up_projection": (figure3_up_projection, ("base2new",)),
    "figure4_few_shot": (partial(few_shot_curves, "few_shot"), ("few_shot",)),
    "figure5_few_shot_vit_b32": (
        partial(few_shot_curves, "few_shot_vit_b32"),
        ("few_shot_vit_b32",),
    ),
    "training_curves": (training_curves, ("base2new",)),
    "efficiency": (partial(trade_off, list(COSTS)), tuple(PARAMETERS)),
    "critical_difference": (partial(ranking, PARAMETERS), tuple(PARAMETERS)),
    "reliability": (reliability, ("base2new",)),
    "confusion": (confusion, ("base2new",)),
}
