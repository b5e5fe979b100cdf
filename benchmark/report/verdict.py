"""The verdict on a table: do our figures agree with the published ones, cell by cell?

It is about the protocol's own rows that have published figures. A cell counts once all seeds are
there, an average once all data sets are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmark.report.collect import Collected
from benchmark.report.comparison import WITHOUT, Row, named, rows_of
from benchmark.report.published import ACCURACY, AVERAGE

# Points of accuracy (or HM) that a cell may differ by.
OF_A_DATASET = 1.5
TOLERANCES = {AVERAGE: 0.5, "eurosat": 4.0, "dtd": 4.0}  # these two swing between seeds
STATED = "average 0.5, a data set 1.5, EuroSAT and DTD 4"
INSIDE, OUTSIDE, INCOMPLETE = "inside", "outside", "incomplete"
OTHER_SETTING, NONE = "not the paper's setting", "none"
LISTED = 4  # cells or parts that a sentence names


class Place(NamedTuple):
    """Where a cell is."""

    row: str
    dataset: str
    column: str

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.row, self.dataset, self._words())))

    @property
    def part(self) -> str:
        """The data set, with its number of shots."""
        return f"{self.dataset}, {self._words()}" if self.column.isdigit() else self.dataset

    def _words(self) -> str:
        return "" if self.column == ACCURACY else named(self.column)


@dataclass(frozen=True)
class Verdict:
    """The verdict on one protocol's table.

    Attributes:
        state: inside, outside, incomplete, not the paper's setting, or none.
        text: it in words.
        cells, planned: compared, and those to compare.
        mean: absolute difference of those compared.
        largest: absolute difference.
        where: the row, data set and column of the largest.
    """

    state: str
    text: str
    cells: int = 0
    planned: int = 0
    mean: float | None = None
    largest: float | None = None
    where: str = ""


def verdict(found: Collected) -> Verdict:
    """Judge a protocol's own rows."""
    if found.protocol.demo:
        return Verdict(NONE, "Verdict: none. Nothing is published on the demo world.")
    rows = [row for row in rows_of(found) if row.label in found.asked.rows and row.entry]
    if not rows:
        return Verdict(NONE, "Verdict: none. Nothing is published for these rows.")
    changed, precision = _settings(found, rows)
    if changed:
        return Verdict(OTHER_SETTING, f"{_begin(found, OTHER_SETTING)} {_listed(changed)}.")
    return _judge(rows, found, precision)


def tolerance(name: str) -> float:
    """Return the points that a cell of a data set, or of the average, may differ by."""
    return TOLERANCES.get(name, OF_A_DATASET)


def _settings(found: Collected, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return settings that are not the protocol's: those that void a verdict, and precisions."""
    changed, precision = [], []
    for row in rows:
        for key, values in found.deviating.get(row.label, {}).items():
            kind = precision if key.startswith("TRAINER.") and key.endswith(".PREC") else changed
            kind += [f"{key} is {has}, the protocol has {own}" for has, own in sorted(values)]
    return list(dict.fromkeys(changed)), list(dict.fromkeys(precision))


def _judge(rows: Sequence[Row], found: Collected, precision: Sequence[str]) -> Verdict:
    gaps: dict[Place, float] = {}
    missing: dict[str, tuple[set[str], set[int]]] = {}  # part to rows and seeds
    places = [(row, Place(row.label, *key)) for row in rows for key in row.published]
    places = [(row, place) for row, place in places if place.dataset != WITHOUT]
    for row, place in places:
        gap, score = row.difference(place[1:]), row.scores.get(place[1:])
        seeds = set(found.asked.seeds) - set(score.by_seed if score else ())
        if gap is None or seeds:
            of_rows, of_seeds = missing.setdefault(place.part, (set(), set()))
            of_rows.add(place.row)
            of_seeds.update(seeds)
        else:
            gaps[place] = gap
    ordered = sorted(gaps, key=lambda place: -abs(gaps[place]))
    outside = [p for p in ordered if abs(gaps[p]) > tolerance(p.dataset) + 1e-9]
    state = INCOMPLETE if missing else OUTSIDE if outside else INSIDE
    sizes = [abs(gaps[place]) for place in ordered]
    mean = sum(sizes) / len(sizes) if sizes else None
    sentences = [f"None of {len(places)} cells can be compared yet"]
    if sizes:
        part = f" of {len(places)}" * (len(sizes) < len(places))
        sentences = [
            f"{len(sizes)}{part} cells compared: mean absolute difference {mean:.2f}, largest "
            f"{gaps[ordered[0]]:+.2f} ({ordered[0]}); tolerances in points: {STATED}"
        ]
    if missing:
        sentences.append(f"Missing: {_missing(missing, len(rows), found.asked.seeds)}")
    if outside:
        sentences.append(f"Outside: {_listed([f'{p} {gaps[p]:+.2f}' for p in outside])}")
    sentences += [_listed(precision)] if precision else []
    text = f"{_begin(found, state)} {'. '.join(sentences)}."
    largest, where = (sizes[0], str(ordered[0])) if sizes else (None, "")
    return Verdict(state, text, len(sizes), len(places), mean, largest, where)


def _begin(found: Collected, state: str) -> str:
    paper = found.protocol.paper.split(",")[0]
    return f"Verdict{f' on {paper}' if paper else ''}: {state}."


def _missing(
    missing: Mapping[str, tuple[set[str], set[int]]], rows: int, planned: Sequence[int]
) -> str:
    """Name the data sets that are missing, and rows and seeds where others are there."""
    parts = []
    for part, (of_rows, seeds) in missing.items():
        words = sorted(of_rows) if len(of_rows) < rows else []
        if seeds and seeds != set(planned):
            words.append(f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}")
        if not part.startswith(AVERAGE):  # an average misses what its data sets do
            parts.append(part + (f" ({'; '.join(words)})" if words else ""))
    return _listed(parts)


def _listed(parts: Sequence[str]) -> str:
    rest = len(parts) - LISTED
    return "; ".join(parts[:LISTED]) + (f"; and {rest} more" if rest > 0 else "")
