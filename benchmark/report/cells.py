"""What tables are made of: cells with a text and a value, headers, notes, sources.

`benchmark.formats` and `benchmark.page` write them. Published figures stand in rows and columns of
their own, with the difference to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmark.published import Entry, entries
from benchmark.results import FROM_LOGS, Collected
from benchmark.scores import Score

OUTLIER = "eurosat"  # swings by several points between seeds: averages are given without it too
MISSING = "missing"


@dataclass(frozen=True)
class Cell:
    """One cell: what people read, and what programs do.

    Attributes:
        text: with deviation and number of seeds.
        value: to sort by; None for words and for what is missing.
        std, seeds, planned: of a figure of one's own.
        kind: label, own, published, difference, count, or missing.
    """

    text: str
    value: float | None = None
    std: float | None = None
    seeds: int | None = None
    planned: int | None = None
    kind: str = "label"


BLANK = Cell("")


@dataclass(frozen=True)
class Table:
    """A table with one header line; `sources` say where its published figures were read."""

    title: str
    header: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def own(score: Score) -> Cell:
    """Mean ± deviation (seeds), or what is missing of it."""
    found = len(score.by_seed)
    if score.mean is None:
        return Cell(MISSING, seeds=0, planned=score.planned, kind="missing")
    deviation = "" if score.std is None else f" ± {score.std:.2f}"
    count = f"{found}" if found == score.planned else f"{found} of {score.planned}"
    text = f"{score.mean:.2f}{deviation} ({count})"
    return Cell(text, score.mean, score.std, found, score.planned, "own")


def published(value: float | None) -> Cell:
    return BLANK if value is None else Cell(f"{value:.2f}", value, kind="published")


def difference(mine: float | None, theirs: float | None) -> Cell:
    """Mine minus theirs, with its sign."""
    if mine is None or theirs is None:
        return BLANK
    return Cell(f"{mine - theirs:+.2f}", mine - theirs, kind="difference")


def count(number: int | None) -> Cell:
    return BLANK if number is None else Cell(f"{number:,}", number, kind="count")


def entries_of(found: Collected) -> list[Entry]:
    """Published figures for a protocol; none on the demo world, which nobody else has seen."""
    return [] if found.protocol.demo else entries(found.protocol.name)


def entry_of(rows: Sequence[Entry], label: str) -> Entry | None:
    """What was published for one of our rows: of the same method, or the row of an ablation."""
    label = label.removesuffix(FROM_LOGS)
    return next((row for row in rows if label in (row.trainer, row.method)), None)


def without_outlier(datasets: Sequence[str]) -> list[str]:
    return [name for name in datasets if name != OUTLIER]


def notes_of(found: Collected) -> list[str]:
    """What to know of a protocol's table: how to read it, what is missing or otherwise set."""
    notes = [
        "Percent; mean ± standard deviation over the seeds (number of seeds). HM is that of the "
        "averages, its deviation that of the seeds' own HMs."
    ]
    missing = sum(result is None for _, result in found.runs)
    if missing:
        notes.append(f"{missing} of {len(found.runs)} evaluations are missing.")
    for key, values in sorted(found.deviating.items()):
        was, has = (" or ".join(sorted(set(side))) for side in zip(*values, strict=True))
        notes.append(f"Not the protocol's setting: {key} is {was}, the protocol has {has}.")
    return notes


def parts_of(what: str, scores: Sequence[Score]) -> list[str]:
    """A note where an average is over some data sets only."""
    have = sum(score.mean is not None for score in scores)
    return [f"{what}: over {have} of {len(scores)} data sets."] if 0 < have < len(scores) else []


def sources_of(theirs: Sequence[Entry]) -> list[str]:
    """Where published figures were read, and what does not add up in them."""
    return [f"{e.method}: {e.source}." + (f" {e.note}" if e.note else "") for e in theirs]
