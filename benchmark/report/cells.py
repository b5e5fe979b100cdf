"""Hold the parts of a table: cells with a text and a value, headers, notes, sources, a verdict.

`benchmark.report.text` and `benchmark.report.html` write them.
"""

from dataclasses import dataclass, field

from benchmark.report.metrics import Score
from benchmark.report.verdict import Verdict


@dataclass(frozen=True)
class Cell:
    """Hold one cell: what people read, and what programs use.

    Attributes:
        text: with deviation and number of seeds.
        value: to sort by; None for words and for what is missing.
        std, seeds, planned: of a figure of our own.
        kind: label, own, published, difference, count, missing, or p (of a test).
    """

    text: str
    value: float | None = None
    std: float | None = None
    seeds: int | None = None
    planned: int | None = None
    kind: str = "label"


@dataclass(frozen=True)
class Table:
    """Hold a table with one header line; `sources` say where its published figures were read."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def words(self) -> list[bool]:
        """Return for each column if it has words, not figures."""
        columns = zip(*self.rows, strict=True)
        return [all(cell.kind == "label" and cell.text for cell in c) for c in columns]


BLANK = Cell("")


def own(score: Score | None) -> Cell:
    """Write mean ± deviation (seeds), or that it is missing."""
    if score is None:
        return BLANK
    found = score.count
    if score.mean is None:
        return Cell("missing", seeds=0, planned=score.planned, kind="missing")
    deviation = "" if score.std is None else f" ± {score.std:.2f}"
    count = f"{found}" if found == score.planned else f"{found} of {score.planned}"
    text = f"{score.mean:.2f}{deviation} ({count})"
    return Cell(text, score.mean, score.std, found, score.planned, "own")


def figure(value: float | None, kind: str, form: str = ".2f", text: str = "") -> Cell:
    """Write a figure that has no deviation, in another's words where there are any, or nothing."""
    return BLANK if value is None else Cell(text or format(value, form), value, kind=kind)
