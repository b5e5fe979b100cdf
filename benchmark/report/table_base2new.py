"""Base-to-new tables, which the ablations are as well."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.cells import (
    BLANK,
    OUTLIER,
    Cell,
    Table,
    count,
    difference,
    entries_of,
    entry_of,
    notes_of,
    own,
    parts_of,
    published,
    sources_of,
    without_outlier,
)
from benchmark.published import METRICS, Entry, parameters
from benchmark.results import Collected
from benchmark.scores import Score, average, harmonic


@dataclass(frozen=True)
class Row:
    """Base-to-new scores of one row, by data set."""

    label: str
    base: dict[str, Score]
    new: dict[str, Score]

    def average(self, datasets: Sequence[str]) -> tuple[Score, Score, Score]:
        """Base, new, HM of the averages over data sets, of those that have both."""
        both = [
            d for d in datasets if self.base[d].mean is not None and self.new[d].mean is not None
        ]
        base = average([self.base[d] for d in both or datasets])
        new = average([self.new[d] for d in both or datasets])
        return base, new, harmonic(base, new)

    def complete(self, datasets: Sequence[str]) -> bool:
        return all(s[d].mean is not None for d in datasets for s in (self.base, self.new))


def base2new_rows(found: Collected) -> list[Row]:
    train, test = found.protocol.train, found.protocol.test
    empty = Score(None, {}, len(found.protocol.seeds))
    shots = {row: k for row, _, _, k in found.scores}
    return [
        Row(
            label,
            *(
                {
                    d: found.scores.get((label, d, classes, shots[label]), empty)
                    for d in train.datasets
                }
                for classes in (train.classes, test.classes)
            ),
        )
        for label in found.rows
    ]


def base2new_tables(found: Collected) -> list[Table]:
    rows, theirs = base2new_rows(found), entries_of(found)
    result = [_base2new_average(found, rows, theirs)]
    if len(found.protocol.train.datasets) > 1:
        result.append(_base2new_by_dataset(found, rows, theirs))
    if any(entry.datasets for entry in theirs):
        result.append(_base2new_beside_published(found, rows, theirs))
    return result


def _base2new_average(found: Collected, rows: list[Row], theirs: list[Entry]) -> Table:
    datasets = found.protocol.train.datasets
    outlier = OUTLIER in datasets
    metric = _published_metric(rows, theirs)
    header = ["method", "base", "new", "HM", *(["HM without EuroSAT"] if outlier else [])]
    header += ["parameters", *([f"published {metric}", "difference"] if theirs else [])]
    lines = []
    for row in rows:
        scores = row.average(datasets)
        line = [Cell(row.label), *map(own, scores)]
        if outlier:
            line.append(own(row.average(without_outlier(datasets))[2]))
        line.append(count(found.parameters.get(row.label)))
        entry = entry_of(theirs, row.label)
        if theirs:
            value = entry.average[METRICS.index(metric)] if entry else None
            mine = scores[METRICS.index(metric)].mean if row.complete(datasets) else None
            line += [published(value), difference(mine, value)]
        lines.append(line)
    lines += [_published_line(e, outlier) for e in theirs if not found.protocol.varies]
    many = f"average over {len(datasets)} data sets" if len(datasets) > 1 else datasets[0]
    sources = sources_of(theirs) if found.protocol.varies else []
    notes = _incomplete(rows, datasets) + notes_of(found)
    return Table(f"{found.protocol.title}: {many}", header, lines, notes, sources)


def _published_metric(rows: list[Row], theirs: list[Entry]) -> str:
    """The HM, unless only another figure was found for our rows (the paper's ranks: new)."""
    mine = [entry for row in rows if (entry := entry_of(theirs, row.label))]
    known = [m for i, m in enumerate(METRICS) if any(entry.average[i] for entry in mine)]
    return "HM" if "HM" in known or not known else known[-1]


def _published_line(entry: Entry, outlier: bool) -> list[Cell]:
    line = [Cell(f"{entry.method} (published)"), *map(published, entry.average)]
    if outlier:
        line.append(published(published_without(entry)))
    return [*line, count(parameters().get(entry.method)), BLANK, BLANK]


def published_without(entry: Entry) -> float | None:
    """A method's HM without EuroSAT, computed from its published figures; None without them."""
    if not entry.datasets:
        return None
    halves = [
        average([Score(figures[i], {}, 0) for d, figures in entry.datasets.items() if d != OUTLIER])
        for i in (0, 1)
    ]
    return harmonic(*halves).mean


def _base2new_by_dataset(found: Collected, rows: list[Row], theirs: list[Entry]) -> Table:
    header = ["data set", "method", "base", "new", "HM"]
    header += ["published HM", "difference"] if theirs else []
    lines = []
    for dataset in found.protocol.train.datasets:
        for row in rows:
            scores = row.average([dataset])
            line = [Cell(dataset), Cell(row.label), own(row.base[dataset]), own(row.new[dataset])]
            line.append(own(scores[2]))
            entry = entry_of(theirs, row.label)
            value = entry.datasets[dataset][2] if entry and entry.datasets else None
            if theirs:
                line += [published(value), difference(scores[2].mean, value)]
            lines.append(line)
    return Table(f"{found.protocol.title}: by data set", header, lines)


def _base2new_beside_published(found: Collected, rows: list[Row], theirs: list[Entry]) -> Table:
    theirs = [entry for entry in theirs if entry.datasets]
    datasets = found.protocol.train.datasets
    header = ["data set", *(row.label for row in rows), *(f"{e.method} (pub.)" for e in theirs)]
    lines = [
        [
            Cell(dataset),
            *(own(row.average([dataset])[2]) for row in rows),
            *(published(entry.datasets[dataset][2]) for entry in theirs),
        ]
        for dataset in datasets
    ]
    lines.append(
        [
            Cell("average"),
            *(own(row.average(datasets)[2]) for row in rows),
            *(published(entry.average[2]) for entry in theirs),
        ]
    )
    if OUTLIER in datasets:
        lines.append(
            [
                Cell("average without EuroSAT"),
                *(own(row.average(without_outlier(datasets))[2]) for row in rows),
                *(published(published_without(entry)) for entry in theirs),
            ]
        )
    title = f"{found.protocol.title}: HM beside published"
    return Table(title, header, lines, _incomplete(rows, datasets), sources_of(theirs))


def _incomplete(rows: list[Row], datasets: Sequence[str]) -> list[str]:
    return [
        note
        for row in rows
        for note in parts_of(row.label, [row.average([dataset])[2] for dataset in datasets])
    ]
