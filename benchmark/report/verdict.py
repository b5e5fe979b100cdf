"""Judge a table: do our figures agree with the published ones, cell by cell?

It is about the protocol's own rows that have published figures. A cell counts once all seeds are
there, an average once all data sets are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

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


@dataclass(frozen=True)
class Verdict:
    """Hold the verdict on one protocol's table.

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
    changed = found.settings(row.label for row in rows)
    precisions = [k for k in changed if k.startswith("TRAINER.") and k.endswith(".PREC")]
    precision = [changed.pop(key) for key in precisions]
    if changed:
        text = f"{_begin(found, OTHER_SETTING)} {_listed([*changed.values()])}."
        return Verdict(OTHER_SETTING, text)
    return _judge(rows, found, precision)


def _judge(rows: Sequence[Row], found: Collected, precision: Sequence[str]) -> Verdict:
    gaps: dict[str, float] = {}  # in the order of the table
    outside: list[str] = []
    missing: dict[str, tuple[set[str], set[int]]] = {}  # data set to rows and seeds
    cells = [(row, key) for row in rows for key in row.entry["cells"] if key[0] != WITHOUT]
    for row, (dataset, column) in cells:
        gap, score = row.difference((dataset, column)), row.scores.get((dataset, column))
        seeds = set(found.asked.seeds) - set(score.by_seed if score else ())
        if gap is None or seeds:
            part = ", ".join([dataset] + [named(column)] * column.isdigit())
            of_rows, of_seeds = missing.setdefault(part, (set(), set()))
            of_rows.add(row.label)
            of_seeds.update(seeds)
            continue
        place = ", ".join([row.label, dataset] + [named(column)] * (column != ACCURACY))
        gaps[place] = gap
        outside += [place] * (abs(gap) > TOLERANCES.get(dataset, OF_A_DATASET) + 1e-9)
    state = INCOMPLETE if missing else OUTSIDE if outside else INSIDE
    sentences = [f"None of {len(cells)} cells can be compared yet"]
    mean = largest = where = None
    if gaps:
        mean, where = fmean(map(abs, gaps.values())), max(gaps, key=lambda place: abs(gaps[place]))
        part = f" of {len(cells)}" * (len(gaps) < len(cells))
        sentences = [
            f"{len(gaps)}{part} cells compared: mean absolute difference {mean:.2f}, largest "
            f"{gaps[where]:+.2f} ({where}); tolerances in points: {STATED}"
        ]
        largest = abs(gaps[where])
    if missing:
        sentences.append(f"Missing: {_missing(missing, len(rows), found.asked.seeds)}")
    if outside:
        worst = sorted(outside, key=lambda place: -abs(gaps[place]))
        sentences.append(f"Outside: {_listed([f'{p} {gaps[p]:+.2f}' for p in worst])}")
    sentences += [_listed(precision)] if precision else []
    text = f"{_begin(found, state)} {'. '.join(sentences)}."
    return Verdict(state, text, len(gaps), len(cells), mean, largest, where or "")


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
