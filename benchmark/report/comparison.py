"""Own and published figures of a protocol under the same keys: (data set, column).

Columns are base, new and HM in base-to-new tables, the number of shots in few-shot tables, and
"accuracy" in transfer tables. Averages stand under AVERAGE and WITHOUT, which is without EuroSAT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmark.protocol import Protocol
from benchmark.report.collect import FROM_LOGS, Collected
from benchmark.report.metrics import Score, average, harmonic
from benchmark.report.published import ACCURACY, AVERAGE, METRICS, Entry, Key, entries

OUTLIER = "eurosat"  # swings by several points between seeds: averages are given without it too
WITHOUT = "average without EuroSAT"
UNTRAINED = "0"  # shots of what is not trained: its figure holds at every number of shots


@dataclass(frozen=True)
class Row:
    """One of our rows: its scores, and what was published for it."""

    label: str
    scores: Mapping[Key, Score]
    entry: Entry | None = None
    published: Mapping[Key, float] = field(default_factory=dict)

    def difference(self, key: Key) -> float | None:
        """Return ours minus the published figure; None where one is missing, or partial."""
        own, theirs = self.scores.get(key), self.published.get(key)
        if own is None or own.mean is None or own.partial or theirs is None:
            return None
        return own.mean - theirs


def rows_of(found: Collected) -> list[Row]:
    """Return our rows with every score, averages too, and the published figures of each."""
    rows, theirs = [], entries_of(found.protocol)
    for label in found.rows:
        entry = _entry(theirs, label)
        published = published_figures(entry, found.protocol) if entry else {}
        rows.append(Row(label, _scores(found, label), entry, published))
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


def entries_of(protocol: Protocol) -> list[Entry]:
    """Return published rows for a protocol; none on the demo world, which nobody else has seen."""
    return [] if protocol.demo else entries(protocol.name)


def published_figures(entry: Entry, protocol: Protocol) -> dict[Key, float]:
    """Return an entry's figures, with averages without EuroSAT computed where that can be."""
    figures = _at_all_shots(entry.figures, protocol)
    rest = [name for name in averaged(protocol) if name != OUTLIER]
    if OUTLIER in averaged(protocol) and all(name in entry.datasets for name in rest):
        scores = {key: Score(value, {}, 0) for key, value in figures.items()}
        means = _averages(scores, rest)
        figures |= {(WITHOUT, column): s.mean for column, s in means.items() if s.mean is not None}
    return figures


def _entry(theirs: Sequence[Entry], label: str) -> Entry | None:
    """Return what was published for one of our rows: the same method, or an ablation's row."""
    label = label.removesuffix(FROM_LOGS)
    return next((entry for entry in theirs if label in (entry.trainer, entry.method)), None)


def _scores(found: Collected, label: str) -> dict[Key, Score]:
    scores = _at_all_shots(_per_dataset(found, label), found.protocol)
    names = averaged(found.protocol)
    averages = {AVERAGE: names}
    if OUTLIER in names:
        averages[WITHOUT] = tuple(name for name in names if name != OUTLIER)
    for name, members in averages.items():
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
        scores = {(d, ACCURACY): cell(d, train.classes, shots[0]) for d in train.datasets}
        return scores | {(d, ACCURACY): cell(d, test.classes, shots[0]) for d in test.datasets}
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
