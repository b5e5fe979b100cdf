"""Few-shot tables: accuracy on all classes by the number of training images per class."""

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
from benchmark.results import Collected
from benchmark.scores import Score, average


def few_shot_average(found: Collected, datasets: Sequence[str]) -> dict[str, dict[int, Score]]:
    """For each row and number of shots the average over data sets; 0 shots: nothing is learned."""
    classes = found.protocol.train.classes
    empty = Score(None, {}, len(found.protocol.seeds))
    result: dict[str, dict[int, Score]] = {}
    for label, _, _, shots in found.scores:
        cells = [found.scores.get((label, d, classes, shots), empty) for d in datasets]
        result.setdefault(label, {})[shots] = average(cells)
    return result


def few_shot_tables(found: Collected) -> list[Table]:
    protocol, theirs = found.protocol, entries_of(found)
    datasets = protocol.train.datasets
    averages = few_shot_average(found, datasets)
    zero = any(0 in by_shots for by_shots in averages.values()) or any(
        "0" in entry.average for entry in theirs
    )
    columns = [*([0] if zero else []), *protocol.shots]
    header = ["method", *(f"{k} shot{'' if k == 1 else 's'}" for k in columns)]
    lines = []
    for label, by_shots in averages.items():
        lines.append([Cell(label), *(_shots_cell(by_shots, k) for k in columns)])
        entry = entry_of(theirs, label)
        if entry and entry.average:
            gap = [
                difference(
                    by_shots[k].mean if k in by_shots and _is_complete(found, label, k) else None,
                    entry.average.get(str(k)),
                )
                for k in columns
            ]
            lines.append([Cell("  minus published"), *gap])
    lines += [
        [Cell(f"{e.method} (published)"), *(published(e.average.get(str(k))) for k in columns)]
        for e in theirs
    ]
    many = f"average over {len(datasets)} data sets" if len(datasets) > 1 else datasets[0]
    notes = _incomplete(found, averages) + notes_of(found)
    table = Table(f"{protocol.title}: {many}", header, lines, notes, sources_of(theirs))
    result = [table]
    if len(datasets) > 1:
        result.append(_few_shot_by_dataset(found, header, columns))
    return result


def _shots_cell(by_shots: dict[int, Score], shots: int) -> Cell:
    return own(by_shots[shots]) if shots in by_shots else BLANK


def _by_dataset(found: Collected, label: str, shots: int) -> list[Score]:
    classes, empty = found.protocol.train.classes, Score(None, {}, 0)
    cells = [(label, d, classes, shots) for d in found.protocol.train.datasets]
    return [found.scores.get(cell, empty) for cell in cells]


def _is_complete(found: Collected, label: str, shots: int) -> bool:
    """Whether an average is over all data sets, and so comparable."""
    return all(score.mean is not None for score in _by_dataset(found, label, shots))


def _incomplete(found: Collected, averages: dict[str, dict[int, Score]]) -> list[str]:
    return [
        note
        for label, by_shots in averages.items()
        for shots in by_shots
        for note in parts_of(f"{label}, {shots} shots", _by_dataset(found, label, shots))
    ]


def _few_shot_by_dataset(found: Collected, header: list[str], columns: list[int]) -> Table:
    datasets = found.protocol.train.datasets
    parts = [(name, [name]) for name in datasets]
    if OUTLIER in datasets:
        parts.append(("average without EuroSAT", without_outlier(datasets)))
    lines = [
        [Cell(name), Cell(label), *(_shots_cell(by_shots, k) for k in columns)]
        for name, members in parts
        for label, by_shots in few_shot_average(found, members).items()
    ]
    return Table(f"{found.protocol.title}: by data set", ["data set", *header], lines)
