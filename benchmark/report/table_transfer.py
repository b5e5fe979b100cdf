"""Transfer tables: trained on one data set, tested on others."""

from collections.abc import Sequence

from benchmark.cells import (
    BLANK,
    OUTLIER,
    Cell,
    Table,
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
from benchmark.published import Entry
from benchmark.results import Collected
from benchmark.scores import Score, average


def transfer_tables(found: Collected) -> list[Table]:
    (source,), targets = found.protocol.train.datasets, found.protocol.test.datasets
    theirs = entries_of(found)
    outlier = OUTLIER in targets
    header = ["method", f"{source} (source)", *targets, f"average of {len(targets)}"]
    header += ["average without EuroSAT"] if outlier else []
    train, test = found.protocol.train.classes, found.protocol.test.classes
    empty = Score(None, {}, len(found.protocol.seeds))
    shots = {row: k for row, _, _, k in found.scores}
    lines, incomplete = [], []
    for label in found.rows:
        cells = [(label, source, train, shots[label])]
        cells += [(label, target, test, shots[label]) for target in targets]
        scores = [found.scores.get(cell, empty) for cell in cells]
        mean = average(scores[1:])
        incomplete += parts_of(label, scores[1:])
        rest = [s for s, name in zip(scores[1:], targets, strict=True) if name != OUTLIER]
        line = [Cell(label), *map(own, scores), own(mean)]
        lines.append(line + ([own(average(rest))] if outlier else []))
        entry = entry_of(theirs, label)
        if entry:
            complete = all(score.mean is not None for score in scores[1:])
            values = [entry.datasets.get(name) for name in (source, *targets)]
            pairs = zip(scores, values, strict=True)
            gap = [difference(score.mean, value) for score, value in pairs]
            last = difference(mean.mean if complete else None, entry.average)
            lines.append([Cell("  minus published"), *gap, last, *([BLANK] if outlier else [])])
    for entry in theirs:
        values = [entry.datasets.get(name) for name in (source, *targets)]
        line = [Cell(f"{entry.method} (published)"), *map(published, values)]
        line.append(published(entry.average))
        if outlier:
            line.append(published(_mean_without(entry, targets)))
        lines.append(line)
    notes = incomplete + notes_of(found)
    return [Table(found.protocol.title, header, lines, notes, sources_of(theirs))]


def _mean_without(entry: Entry, targets: Sequence[str]) -> float | None:
    values = [entry.datasets.get(name) for name in without_outlier(targets)]
    return None if None in values else sum(values) / len(values)
