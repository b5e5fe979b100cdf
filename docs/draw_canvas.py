"""Hold what the drawn figures share: themes, a canvas in pixels, and how files are written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

FOLDER = Path(__file__).with_name("figures")
DPI = 100
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",
    "svg.hashsalt": "figures",
}


@dataclass(frozen=True)
class Theme:
    """Hold the colours of one background; `trained` is Okabe and Ito's vermilion or orange."""

    ink: str
    muted: str
    frozen: str
    frozen_edge: str
    trained: str
    tint: str


THEMES = {
    "light": Theme("#1f2328", "#57606a", "#dfe7ef", "#8296ab", "#d55e00", "#fbe3d3"),
    "dark": Theme("#e6edf3", "#a3adb8", "#25313e", "#7188a0", "#e69f00", "#46361a"),
}


@dataclass(frozen=True)
class Canvas:
    """Hold axes in pixels from the upper left corner, and the few shapes that a diagram needs."""

    axes: Axes
    theme: Theme

    @classmethod
    def blank(cls, width: int, height: int, theme: Theme) -> "Canvas":
        """Return an empty canvas of WIDTH x HEIGHT pixels."""
        figure = plt.figure(figsize=(width / DPI, height / DPI))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        return cls(axes, theme)

    def text(self, x: float, y: float, words: str, size: int = 21, **how) -> None:
        """Write WORDS around x, y; SIZE is in pixels."""
        if "\n" not in words:  # a common baseline, whatever hangs below it or stands above
            y, how = y + 0.36 * size, {"va": "baseline", **how}
        how = {"color": self.theme.ink, "ha": "center", "va": "center", **how}
        self.axes.text(x, y, words, fontsize=size * 72 / DPI, linespacing=1.35, **how)

    def box(self, x: float, y: float, w: float, h: float, words: str = "", **how) -> None:
        """Draw a frozen box from its upper left corner, WORDS in its centre."""
        look = {"fc": self.theme.frozen, "ec": self.theme.frozen_edge, "lw": 1.2, **how}
        style = "round,pad=0,rounding_size=7"
        self.axes.add_patch(FancyBboxPatch((x, y), w, h, boxstyle=style, **look))
        self.text(x + w / 2, y + h / 2, words)

    def cells(self, x: float, y: float, rows: int, columns: int, size: int, fill: str) -> None:
        """Draw a small trained matrix around x, y."""
        edge = self.theme.tint if fill == self.theme.trained else self.theme.trained
        x, y = x - columns * size / 2, y - rows * size / 2
        for i in range(rows * columns):
            corner = (x + i % columns * size, y + i // columns * size)
            self.axes.add_patch(Rectangle(corner, size, size, fc=fill, ec=edge, lw=0.9))

    def arrow(self, begin: tuple[float, float], end: tuple[float, float], **how) -> None:
        """Draw an arrow from BEGIN to END, its tip exactly there."""
        look = {"arrowstyle": "-|>,head_width=0.28,head_length=0.55", "lw": 1.6, **how}
        look = {"color": self.theme.muted, "shrinkA": 0, "shrinkB": 0, **look}
        self.axes.annotate("", end, begin, arrowprops=look)


def write(folder: Path, name: str, draw: Callable[[Theme], Figure]) -> list[Path]:
    """Write FOLDER/NAME_<theme>.svg and .png, the same bytes each time; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for theme, colours in THEMES.items():
        with plt.rc_context(STYLE):
            figure = draw(colours)
            for ending, varying in (("svg", ("Date", "Creator")), ("png", ("Software",))):
                path = folder / f"{name}_{theme}.{ending}"
                metadata = dict.fromkeys(varying)
                figure.savefig(path, dpi=DPI, transparent=True, metadata=metadata)
                paths.append(path)
            plt.close(figure)
    return paths
