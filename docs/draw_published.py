"""Draw the paper's table 1: HM against trainable parameters, light and dark, as SVG and PNG."""

import json
from pathlib import Path
from typing import NamedTuple

from draw_canvas import DPI, FOLDER, Theme, plt, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, NullLocator

PUBLISHED = Path(__file__).parents[1] / "benchmark" / "report" / "published.json"
PAPER = "2602.21397"  # arXiv; only rows and counts that name it are drawn
UNITS = {"K": 1e3, "M": 1e6}
OURS, UNTRAINED = "MMLoP", "CLIP"
BELOW = {"MetaPrompt", "CLIP-LoRA", "CoOp"}  # labels that would meet another above their point


class Row(NamedTuple):
    """Hold one method of the table; no parameters where nothing is trained."""

    method: str
    hm: float
    parameters: int


def paper_rows(published: Path = PUBLISHED) -> list[Row]:
    """Return CLIP and the methods of table 1 whose number of parameters the paper prints."""
    content = json.loads(published.read_text(encoding="utf-8"))
    counts = {UNTRAINED: 0} | {
        method: round(float(count["printed"][:-1]) * UNITS[count["printed"][-1]])
        for method, count in content["parameters"].items()
        if PAPER in count.get("printed_in", "")
    }
    return [
        Row(entry["method"], entry["average"][2], counts[entry["method"]])
        for entry in content["base2new"]
        if PAPER in entry["source"] and entry["method"] in counts
    ]


def draw(rows: list[Row], theme: Theme) -> Figure:
    """Return the figure; markers are hollow, as for all published figures."""
    figure, axes = plt.subplots(figsize=(16, 7.2), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    for row in rows:
        colour = theme.trained if row.method == OURS else theme.muted
        if not row.parameters:
            axes.axhline(row.hm, color=theme.muted, ls=":", lw=1.6)
            where = {"ha": "right", "va": "top", "fontsize": 15, "color": theme.muted}
            words = f"{row.method}, nothing trained"
            axes.text(0.995, row.hm - 0.1, words, transform=axes.get_yaxis_transform(), **where)
            continue
        look = {"ms": 12, "mfc": "none", "mec": colour, "mew": 3 if row.method == OURS else 1.8}
        axes.plot(row.parameters, row.hm, "o", **look)
        weight = "bold" if row.method == OURS else "normal"
        offset, va = ((0, -14), "top") if row.method in BELOW else ((0, 12), "bottom")
        where = {"xytext": offset, "textcoords": "offset points", "ha": "center", "va": va}
        ink = colour if row.method == OURS else theme.ink
        point = (row.parameters, row.hm)
        axes.annotate(row.method, point, fontsize=16, weight=weight, color=ink, **where)
    _dress(axes, theme)
    return figure


def _dress(axes: Axes, theme: Theme) -> None:
    words = f"Published figures (paper, arXiv {PAPER}, table 1): base-to-new, 11 data sets"
    axes.set_title(words, fontsize=18, color=theme.ink, loc="left", pad=16)
    axes.set_xlabel("trainable parameters", fontsize=16, color=theme.ink, labelpad=8)
    axes.set_ylabel("HM of base and new accuracy (%)", fontsize=16, color=theme.ink, labelpad=8)
    axes.set_xscale("log")
    axes.set_xlim(5e3, 1e7)
    axes.margins(y=0.1)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=15, labelcolor=theme.ink, color=theme.muted)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.grid(True, color=theme.ink, alpha=0.12)
    axes.set_axisbelow(True)


def draw_published(folder: Path, published: Path = PUBLISHED) -> list[Path]:
    """Write the four files into FOLDER and return their paths."""
    rows = paper_rows(published)
    return write(folder, "published", lambda theme: draw(rows, theme))


if __name__ == "__main__":
    draw_published(FOLDER)
