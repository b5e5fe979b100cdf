"""Draw the method for the top of the README, light and dark, as SVG and PNG.

Coordinates are pixels of the PNG, from its upper left corner.
"""

from pathlib import Path

from draw_canvas import FOLDER, Canvas, Theme, write
from matplotlib.figure import Figure

WIDTH, HEIGHT = 1600, 920
T, DT, DV = 4, 8, 12  # cells of the drawn matrices: T = 4 is true, and so is d_t : d_v = 2 : 3
TEXT_Y, IMAGE_Y, FROZEN_TEXT_Y, FROZEN_IMAGE_Y = 151, 441, 36, 556
LAYERS = {"layer 1": 426, "layer 2": 542, "layer $J$": 692}  # left edges
SLAB, TAIL, TAIL_END, CHIP, LOSS = 96, 808, 916, 944, 1296


def draw(theme: Theme) -> Figure:
    """Return the figure: towers with prompts, features, loss, and the two ideas in detail."""
    c = Canvas.blank(WIDTH, HEIGHT, theme)
    text, image = ("SOS", "$P_t$", "class words", "EOS"), ("CLS", "patches", "$P_v$")
    _tower(c, TEXT_Y, "Text sequence", text, "$g_k$", inwards=1)
    _tower(c, IMAGE_Y, "Image sequence", image, "$f$", inwards=-1)
    _factors(c)
    _frozen_copy(c, FROZEN_TEXT_Y, "60 templates per class", "text tower", "$g^0_k$")
    _frozen_copy(c, FROZEN_IMAGE_Y, "the same image", "image tower", "$f^{\\,0}$")
    _drift_box(c)
    _loss(c)
    _count_and_legend(c)
    _low_rank_card(c)
    _drift_card(c)
    return c.axes.figure


def _tower(
    c: Canvas, y: float, name: str, tokens: tuple[str, ...], feature: str, inwards: int
) -> None:
    """Draw sequence, layers and feature; INWARDS points to the other tower: 1 down, -1 up."""
    c.text(12, y - 46, name, ha="left", weight="bold")
    x = 12
    for token in tokens:
        w = {"class words": 138, "patches": 202}.get(token, 112 if "P" in token[:2] else 58)
        if token.startswith("$"):
            c.cells(x + w / 2, y, 1, T, 28, c.theme.tint)
            c.text(x + w / 2, y + 40, token, 24, color=c.theme.trained)
        else:
            c.box(x, y - 22, w, 44, token)
        x += w + 6
    c.arrow((x, y), (LAYERS["layer 1"], y))
    for label, left in LAYERS.items():
        c.box(left, y - 55, SLAB, 110)
        c.text(left + SLAB / 2, y - 14 * inwards, label)
        c.cells(left + SLAB / 2, y + 35 * inwards, 1, T, 18, c.theme.tint)
    c.box(TAIL, y - 55, TAIL_END - TAIL, 110, "layers\n$J$+1…12")
    first, second, last = LAYERS.values()
    c.arrow((first + SLAB, y), (second, y))
    c.text((second + SLAB + last) / 2, y, "…", 28, color=c.theme.muted)
    c.arrow((last + SLAB, y), (TAIL, y))
    c.arrow((TAIL_END, y), (CHIP, y))
    c.box(CHIP, y - 24, 58, 48, feature, fc=c.theme.tint, ec=c.theme.trained)


def _factors(c: Canvas) -> None:
    """Draw V_t, U and V_v of the prompted layers between the towers: one U feeds both."""
    middle = (TEXT_Y + IMAGE_Y) / 2
    for left in LAYERS.values():
        x = left + SLAB / 2
        for sign, columns in ((-1, DT), (1, DV)):
            c.arrow((x, middle), (x, middle + sign * 90), color=c.theme.trained)
            c.cells(x, middle + sign * 54, 1, columns, 9, c.theme.trained)
        c.cells(x, middle, T, 1, 14, c.theme.trained)
    c.text(665, middle, "…", 28, color=c.theme.trained)
    for dy, words in ((-54, "$V_t$"), (0, "one $U$ per layer, shared"), (54, "$V_v$")):
        c.text(404, middle + dy, words, 22, color=c.theme.trained, ha="right")


def _frozen_copy(c: Canvas, y: float, given: str, tower: str, feature: str) -> None:
    c.text(396, y, given, ha="right")
    c.arrow((404, y), (426, y))
    c.box(426, y - 24, TAIL_END - 426, 48, f"frozen CLIP, {tower}")
    c.arrow((TAIL_END, y), (CHIP, y))
    c.box(CHIP, y - 24, 58, 48, feature)


def _drift_box(c: Canvas) -> None:
    """Draw the way of the features to the loss; only the text side is corrected."""
    for y in (FROZEN_TEXT_Y, IMAGE_Y, FROZEN_IMAGE_Y):
        c.arrow((CHIP + 58, y), (LOSS, y))
    c.arrow((1103, FROZEN_TEXT_Y), (1103, TEXT_Y - 36))
    c.arrow((CHIP + 58, TEXT_Y), (1030, TEXT_Y))
    c.box(1030, TEXT_Y - 36, 146, 72, "drift\ncorrection", fc="none", ec=c.theme.ink)
    c.arrow((1176, TEXT_Y), (1204, TEXT_Y))
    c.box(1204, TEXT_Y - 24, 58, 48, "$\\hat{g}_k$", fc=c.theme.tint, ec=c.theme.trained)
    c.arrow((1262, TEXT_Y), (LOSS, TEXT_Y))


def _loss(c: Canvas) -> None:
    top = FROZEN_TEXT_Y - 24
    c.box(LOSS, top, 292, FROZEN_IMAGE_Y + 24 - top, fc="none", ec=c.theme.ink)
    c.text(LOSS + 24, 48, "Loss", 24, weight="bold", ha="left")
    terms = (
        (116, 38, "CE", "cross-entropy of $p$"),
        (228, 38, "+ 25 $|\\,\\hat{g} - g^0\\,|_1$", "text features"),
        (340, 38, "+ 10 $|\\,f - f^{\\,0}\\,|_1$", "image features"),
        (468, 56, "+ ½ KL$(p\\,\\|\\,p^0)$\n+ ½ KL$(p^0\\,\\|\\,p)$", "$p$ prompted, $p^0$ frozen"),
    )
    for y, below, term, name in terms:
        c.text(LOSS + 24, y, term, 25, ha="left")
        c.text(LOSS + 24, y + below, name, 20, ha="left", color=c.theme.muted)


def _count_and_legend(c: Canvas) -> None:
    x, y = 830, 254
    c.text(x, y, "11,556", 38, color=c.theme.trained, weight="bold", ha="left")
    c.text(x + 158, y + 5, "trained parameters", ha="left")
    c.text(x, y + 42, "= 9 layers × (4 + 512 + 768)", ha="left", color=c.theme.muted)
    for left, name, fill, edge in (
        (x, "trained", c.theme.trained, c.theme.trained),
        (x + 132, "depends on it", c.theme.tint, c.theme.trained),
        (x + 330, "frozen", c.theme.frozen, c.theme.frozen_edge),
    ):
        c.box(left, y + 75, 20, 20, fc=fill, ec=edge)
        c.text(left + 30, y + 85, name, 20, ha="left")


def _card(c: Canvas, x: float, title: str, remark: str) -> None:
    c.box(x, 620, 778, 288, fc="none")
    c.text(x + 24, 654, title, 24, weight="bold", ha="left")
    c.text(x + 754, 654, remark, ha="right", color=c.theme.muted)


def _low_rank_card(c: Canvas) -> None:
    """Draw P = U V of both towers with the shape of every matrix."""
    _card(c, 12, "Low-rank prompts", "in each of layers 1 to $J$")
    size, y, x = 12, 748, 36
    centres = []
    for tower, columns in (("t", DT), ("v", DV)):
        w = columns * size
        parts = (
            (x + w / 2, T, columns, f"$P_{tower}$", f"$T × d_{tower}$", c.theme.tint),
            (x + w + 55, T, 1, "$U$", "$T × r$", c.theme.trained),
            (x + w + 96 + w / 2, 1, columns, f"$V_{tower}$", f"$r × d_{tower}$", c.theme.trained),
        )
        for centre, rows, width, name, shape, fill in parts:
            c.cells(centre, y, rows, width, size, fill)
            c.text(centre, y - 46, name, 24)
            c.text(centre, y + 46, shape, 20, color=c.theme.muted)
        c.text(x + w + 24, y, "=", 24)
        centres.append(x + w + 55)
        x = 766 - 2 * DV * size - 96
    for centre in centres:
        c.arrow((sum(centres) / 2, 842), (centre, 842), arrowstyle="-", color=c.theme.trained)
        c.arrow((centre, 842), (centre, 814), color=c.theme.trained)
    c.text(sum(centres) / 2, 825, "the same $U$", 20, color=c.theme.trained)
    c.text(401, 877, "$T$ = 4,   $r$ = 1,   $J$ = 9,   $d_t$ = 512,   $d_v$ = 768")


def _drift_card(c: Canvas) -> None:
    """Draw what all classes' shifts have in common, and that it is taken out."""
    _card(c, 810, "Uniform drift correction", "over the classes $k$")
    anchors, own = ((0, 14), (30, 100), (86, 52)), ((10, -16), (-16, -4), (6, 20))
    for left, drift, name in ((834, (64, -22), "g"), (1070, (0, 0), "\\hat{g}")):
        for (x, y), (dx, dy) in zip(anchors, own, strict=True):
            x, y = left + x, 730 + y
            end = (x + dx + drift[0], y + dy + drift[1])
            c.arrow((x, y), end, color=c.theme.trained)
            c.axes.plot(x, y, "o", ms=9, mfc=c.theme.frozen, mec=c.theme.frozen_edge)
        c.text(left + 60, 877, f"$g^0_k \\to {name}_k$", 22, color=c.theme.muted)
    c.arrow((1012, 780), (1048, 780))
    c.text(1030, 758, "$-\\,\\bar{r}$", 22, color=c.theme.muted)
    for y, equation in (
        (728, "$r_k = g_k - g^0_k$"),
        (780, "$\\bar{r} = $mean$_k\\, r_k$"),
        (832, "$\\hat{g}_k = $normalise$(g^0_k + r_k - \\bar{r})$"),
    ):
        c.text(1196, y, equation, 24, ha="left")


def draw_method(folder: Path) -> list[Path]:
    """Write the four files into FOLDER and return their paths."""
    return write(folder, "method", draw)


if __name__ == "__main__":
    draw_method(FOLDER)
