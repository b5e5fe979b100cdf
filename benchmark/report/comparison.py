"""Bring own and published figures of a protocol under the same keys: (data set, column).

Columns are base, new and HM in base-to-new tables, the number of shots in few-shot tables, and
"accuracy" in transfer tables. Averages stand under AVERAGE and WITHOUT, which is without EuroSAT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.protocol import Protocol
from benchmark.report.collect import FROM_LOGS, Collected
from benchmark.report.metrics import Score, average, harmonic
from benchmark.report.published import ACCURACY, AVERAGE, METRICS, Key, entries

OUTLIER = "eurosat"  # swings by several points between seeds: averages are given without it too
WITHOUT = "average without EuroSAT"
UNTRAINED = "0"  # shots of what is not trained: its figure holds at every number of shots


@dataclass(frozen=True)
class Row:
    """Hold one of our rows: its scores, and the published entry next to it."""

    label: str
    scores: Mapping[Key, Score]
    entry: dict | None

    def difference(self, key: Key) -> float | None:
        """Return ours minus the published figure; None where one is missing, or partial."""
        own, theirs = self.scores.get(key), self.entry and self.entry["cells"].get(key)
        if own is None or own.mean is None or own.partial or theirs is None:
            return None
        return own.mean - theirs


def rows_of(found: Collected) -> list[Row]:
    """Return our rows with every score, averages too, and what was published for each."""
    rows = []
    for label in found.rows:
        name = label.removesuffix(FROM_LOGS)  # of the method, or a row of a study
        theirs = [e for e in entries_of(found.protocol) if name in (e["trainer"], e["method"])]
        rows.append(Row(label, _scores(found, label), theirs[0] if theirs else None))
    return rows


def columns_of(protocol: Protocol) -> list[str]:
    """Return the columns of a protocol's table."""
    per_kind = {"base2new": METRICS, "few_shot": protocol.shots, "transfer": (ACCURACY,)}
    return [str(column) for column in per_kind[protocol.table]]


def named(column: str) -> str:
    """Return the header of a column: the metric, or the number of shots."""
    return f"{column} shot{'s' * (column != '1')}" if column.isdigit() else column


def averaged(protocol: Protocol) -> tuple[str, ...]:
    """Return the data sets that averages are over; the source of a transfer is none of them."""
    return (protocol.test if protocol.table == "transfer" else protocol.train).datasets


def entries_of(protocol: Protocol) -> list[dict]:
    """Return published rows for a protocol, with what a table has of each under `cells`.

    There is none on the demo world, which is ours alone.
    """
    rest, theirs = _groups(protocol).get(WITHOUT), []
    for entry in [] if protocol.demo else entries(protocol.name):
        cells = _at_all_shots(entry["figures"], protocol)
        if rest and set(rest) <= entry.get("datasets", {}).keys():
            scores = {key: Score(value, {}, 0) for key, value in cells.items()}
            means = _averages(scores, rest)
            cells |= {(WITHOUT, c): s.mean for c, s in means.items() if s.mean is not None}
        theirs.append({**entry, "cells": cells})
    return theirs


def _groups(protocol: Protocol) -> dict[str, Sequence[str]]:
    """Return the data sets of each average."""
    names = averaged(protocol)
    without = {WITHOUT: [name for name in names if name != OUTLIER]} if OUTLIER in names else {}
    return {AVERAGE: names, **without}


def _scores(found: Collected, label: str) -> dict[Key, Score]:
    scores = _at_all_shots(_per_dataset(found, label), found.protocol)
    for name, members in _groups(found.protocol).items():
        means = _averages(scores, members)
        scores |= {(name, column): mean for column, mean in means.items()}
    return scores


def _per_dataset(found: Collected, label: str) -> dict[Key, Score]:
    train, test = found.protocol.train, found.protocol.test
    shots = list(dict.fromkeys(k for row, _, _, k in found.scores if row == label))
    empty = Score(None, {}, len(found.protocol.seeds))

    def cell(dataset: str, classes: str, shots: int) -> Score:
        return found.scores.get((label, dataset, classes, shots), empty)

    if found.protocol.table == "few_shot":
        return {(d, str(k)): cell(d, train.classes, k) for d in train.datasets for k in shots}
    if found.protocol.table == "transfer":
        stages = [(name, stage.classes) for stage in (train, test) for name in stage.datasets]
        return {(name, ACCURACY): cell(name, classes, shots[0]) for name, classes in stages}
    scores = {}
    for name in train.datasets:
        base, new = (cell(name, stage.classes, shots[0]) for stage in (train, test))
        figures = (base, new, harmonic(base, new))
        scores |= {(name, metric): s for metric, s in zip(METRICS, figures, strict=True)}
    return scores


def _at_all_shots(figures: Mapping[Key, object], protocol: Protocol) -> dict:
    """Repeat the figures of what is not trained at every number of shots of a few-shot table."""
    if protocol.table != "few_shot":
        return dict(figures)
    untrained = {name: value for (name, shots), value in figures.items() if shots == UNTRAINED}
    return {(name, str(k)): v for name, v in untrained.items() for k in protocol.shots} | figures


def _averages(scores: Mapping[Key, Score], names: Sequence[str]) -> dict[str, Score]:
    """Average each column over data sets; of those with base and new, HM of the averages."""
    columns = dict.fromkeys(column for _, column in scores)
    if "HM" not in columns:
        return {c: average([scores[name, c] for name in names]) for c in columns}
    both = {name: scores[name, "HM"].mean is not None for name in names}
    halves = [
        average([scores[n, c] if both[n] else Score(None, {}, scores[n, c].planned) for n in names])
        for c in METRICS[:2]
    ]
    return dict(zip(METRICS, (*halves, harmonic(*halves)), strict=True))
