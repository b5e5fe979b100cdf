"""Hold the look of the figures: colours, panels, legends, files."""

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from prompting.files import write_atomically

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
    "axes.grid": True,
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


Drawn = tuple[Drawing, str, str]  # with the protocol in whose section it goes, and a caption


@dataclass(frozen=True)
class Figure:
    """Hold a drawn figure.

    Attributes:
        name: of its files.
        protocol: in whose section of the page it stands.
        caption: what is measured.
        svg: the drawing.
    """

    name: str
    protocol: str
    caption: str
    svg: str

    @property
    def demo(self) -> bool:
        """Return whether it shows runs on the demo world."""
        return self.name.endswith("_demo")


def write(folder: Path, name: str, drawing: Drawing, protocol: str, caption: str) -> Figure:
    """Write FOLDER/<name>.png and .svg, and return the figure."""
    svg, png = io.StringIO(), io.BytesIO()
    drawing.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches="tight")
    drawing.set_layout_engine("none")  # it is laid out, which takes seconds for many panels
    drawing.savefig(png, format="png", dpi=150, facecolor="white", bbox_inches="tight")
    plt.close(drawing)
    write_atomically(folder / f"{name}.png", png.getvalue())
    write_atomically(folder / f"{name}.svg", svg.getvalue().encode())
    return Figure(name, protocol, caption, svg.getvalue())


def looks() -> Iterator[dict]:
    """Yield a colour and a marker per line; no two of 66 lines share both."""
    for colour, marker in zip(cycle(COLOURS), cycle(MARKERS), strict=False):
        yield {"color": colour, "marker": marker}


def looks_of(labels: Iterable[str]) -> dict[str, dict]:
    """Return the look of each label, the same wherever in a drawing it stands."""
    return dict(zip(dict.fromkeys(labels), looks(), strict=False))


def panels(count: int, width: float, height: float, columns: int) -> tuple[Drawing, list[Axes]]:
    """Return a drawing with so many panels, each of a size in inches."""
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    size = (width * columns, height * rows)
    drawing, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.remove()
    return drawing, axes[:count]


def legend(drawing: Drawing, columns: int) -> None:
    """Put the legend of all axes below them, where it hides no line, with each label once."""
    found: dict[str, Artist] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    drawing.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)
