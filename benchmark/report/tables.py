"""Make the tables of a protocol: averages first, then data set by data set.

Our rows come first, each followed by its difference to the published row, then all published rows.
"""

from collections.abc import Sequence
from dataclasses import replace

from benchmark.report.cells import BLANK, Cell, Table, figure, own
from benchmark.report.collect import FURTHER, Collected
from benchmark.report.comparison import (
    WITHOUT,
    Row,
    averaged,
    columns_of,
    entries_of,
    named,
    rows_of,
)
from benchmark.report.published import ACCURACY, AVERAGE, Key, entries, mismatches, parameters
from benchmark.report.verdict import verdict

GAP = "  minus"  # how the label of a line of differences begins


def tables(found: Collected) -> list[Table]:
    """Return all tables of a protocol; the first has notes, sources and the verdict."""
    protocol, rows, columns = found.protocol, rows_of(found), columns_of(found.protocol)
    many = len(averaged(protocol))
    name = f"average over {many} data sets" if many > 1 else protocol.train.datasets[0]
    notes = [*_partial(rows, columns), *notes_of(found)]
    about = {"notes": notes, "sources": _sources(found), "verdict": verdict(found)}
    further = _further(found, name, columns)
    if protocol.table == "transfer":
        return [Table(protocol.title, *_by_dataset(found, rows, columns[0]), **about), *further]
    made = [Table(f"{protocol.title}: {name}", *_averages(found, rows, columns), **about)]
    for column in columns if len(protocol.columns) > 1 else ():
        scores = [row.scores.get((AVERAGE, column)) for row in rows]
        if any(score is not None and score.mean is not None for score in scores):
            title = f"{protocol.title}: {named(column)} by data set"
            made.append(Table(title, *_by_dataset(found, rows, column)))
    return made + further


def _further(found: Collected, name: str, columns: Sequence[str]) -> list[Table]:
    """Return a table of macro-F1 and calibration errors, where results have them."""
    shown = [column for column in columns if column != "HM"]  # of errors there is no HM
    header, cells = ["method"], {}
    for key, scores in found.further.items():
        for column in shown:
            header.append(f"{FURTHER[key]} {named(column)}".removesuffix(f" {ACCURACY}"))
            for row in rows_of(replace(found, scores=scores)):
                cells.setdefault(row.label, []).append(own(row.scores.get((AVERAGE, column))))
    lines = [[Cell(label), *line] for label, line in cells.items()]
    notes = [
        "Percent. ECE is the expected calibration error of ten equally wide bins of confidence, "
        "adaptive ECE that of ten bins with equally many images; lower is better."
    ]
    title = f"{found.protocol.title}, macro-F1 and calibration: {name}"
    return [Table(title, header, lines, notes)] if lines else []


def _averages(
    found: Collected, rows: Sequence[Row], columns: Sequence[str]
) -> tuple[list[str], list[list[Cell]]]:
    lines = _lines(found, rows, [(AVERAGE, column) for column in columns])
    header = ["method", *map(named, columns)]
    if found.protocol.table == "few_shot":
        return header, lines
    counts = {row.label: figure(found.parameters.get(row.label), "count", ",") for row in rows}
    if not found.protocol.varies:
        for entry in entries_of(found.protocol):
            number, text = parameters().get(entry["method"], (None, ""))
            counts[_label(found, entry)] = figure(number, "count", ",", text)
    return [*header, "parameters"], [[*line, counts.get(line[0].text, BLANK)] for line in lines]


def _by_dataset(
    found: Collected, rows: Sequence[Row], column: str
) -> tuple[list[str], list[list[Cell]]]:
    names = [*found.protocol.columns, AVERAGE]
    names += [WITHOUT] if any((WITHOUT, column) in row.scores for row in rows) else []
    heads = list(names)
    if found.protocol.table == "transfer":
        heads[0] += " (source)"
        heads[names.index(AVERAGE)] += f" of {len(averaged(found.protocol))}"
    return ["method", *heads], _lines(found, rows, [(name, column) for name in names])


def _lines(found: Collected, rows: Sequence[Row], keys: Sequence[Key]) -> list[list[Cell]]:
    """Return our rows, each with its line of differences, then the published rows."""
    lines = []
    for row in rows:
        lines.append([Cell(row.label), *(own(row.scores.get(key)) for key in keys)])
        if row.entry:
            gaps = [figure(row.difference(key), "difference", "+.2f") for key in keys]
            lines.append([Cell(f"{GAP} {_mark(found, row.entry)}"), *gaps])
    for entry in entries_of(found.protocol):
        cells = [figure(entry["cells"].get(key), "published") for key in keys]
        if any(cell is not BLANK for cell in cells):
            lines.append([Cell(_label(found, entry)), *cells])
    return lines


def _label(found: Collected, entry: dict) -> str:
    return f"{entry['method']} {_mark(found, entry)}"


def _mark(found: Collected, entry: dict) -> str:
    """Return the number of an entry's source, as in [1]: in the order of their first entries."""
    sources = list(dict.fromkeys(each["source"] for each in entries(found.protocol.name)))
    return f"[{sources.index(entry['source']) + 1}]"


def _sources(found: Collected) -> list[str]:
    """Return where published figures were read, and what does not add up in them."""
    theirs = entries_of(found.protocol)
    sources = list(dict.fromkeys(f"{_mark(found, entry)} {entry['source']}" for entry in theirs))
    sources += [f"{entry['method']}: {entry['note']}" for entry in theirs if "note" in entry]
    wrong: dict[str, list[str]] = {}
    for method, dataset, metric, printed, follows in mismatches(found.protocol.name):
        note = f"{dataset} {metric} is printed {printed:.2f}, {follows:.2f} follows"
        wrong.setdefault(method, []).append(note)
    notes = [f"{method}: {'; '.join(notes)}." for method, notes in wrong.items()]
    return sources + notes if theirs else []


def notes_of(found: Collected) -> list[str]:
    """Return what to know about a table: how to read it, what is missing or otherwise set."""
    notes = ["Percent; mean ± standard deviation over the seeds (number of seeds)."]
    if found.protocol.table == "base2new":
        notes[0] += " HM is that of the averages, its deviation that of the seeds' own HMs."
    missing = sum(result is None for _, result in found.runs)
    if missing:
        notes.append(f"{missing} of {len(found.runs)} evaluations are missing.")
    settings = found.settings(found.deviating).values()
    return notes + [f"Not the protocol's setting: {words}." for words in settings]


def _partial(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return a note per row whose average is over some data sets only."""
    notes = []
    for row in rows:
        for column in columns:
            score = row.scores.get((AVERAGE, column))
            if score and score.mean is not None and score.partial:
                which = f", {named(column)}" if column.isdigit() else ""
                have, all_ = score.parts
                notes.append(f"{row.label}{which}: average over {have} of {all_} data sets.")
    return list(dict.fromkeys(notes))
