"""Bring together what was found of a protocol, and of other methods and seeds."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.plan import Run, expand
from benchmark.protocol import Protocol, has_settings, select
from benchmark.report.metrics import Score, score
from benchmark.report.published import entries
from benchmark.report.results import Result, Results, deviations
from trainers import requires_training

Place = tuple[str, str, str, int]  # row, data set, classes, shots
FROM_LOGS = " (logs)"  # after the name of a method that the original code base ran
PAPER_BACKBONE = "ViT-B/16"
# Further figures of a results.json (older ones lack them), and their names in a table.
FURTHER = {"macro_f1": "macro-F1", "ece": "ECE", "adaptive_ece": "adaptive ECE"}


@dataclass(frozen=True)
class Collected:
    """Hold a protocol with what was found of it.

    Attributes:
        asked: the protocol as its file has it.
        protocol: with further methods and seeds where there are results of them.
        scores: by row, data set, classes and shots.
        runs: every run and its result, None where it is missing.
        parameters: trainable ones, by row.
        deviating: settings that are not the protocol's, by row: key to (value found, protocol's).
        further: for each of FURTHER what `scores` is for accuracy.
    """

    asked: Protocol
    protocol: Protocol
    scores: Mapping[Place, Score]
    runs: list[tuple[Run, Result | None]]
    parameters: Mapping[str, int]
    deviating: Mapping[str, Mapping[str, set[tuple[str, str]]]]
    further: Mapping[str, Mapping[Place, Score]] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """Return the rows of its tables, in order."""
        return list(dict.fromkeys(row for row, *_ in self.scores))

    @property
    def found(self) -> bool:
        """Return whether there are results of it, be they another protocol's as well."""
        return any(result for _, result in self.runs) or self.has_logs

    @property
    def has_logs(self) -> bool:
        """Return whether original code bases have run something of it."""
        return any(row.endswith(FROM_LOGS) for row in self.rows)

    def trainings(self) -> list[tuple[Run, Result]]:
        """Return the finished trainings of the protocol's last row, its own method as it is."""
        label = list(self.asked.rows)[-1]
        return [(run, r) for run, r in self.runs if r and run.trains and run.row == label]

    def settings(self, rows: Iterable[str]) -> dict[str, str]:
        """Return what is not the protocol's setting in these rows, by key, in words."""
        values: dict[str, set[tuple[str, str]]] = {}
        for row in rows:
            for key, pairs in self.deviating.get(row, {}).items():
                values.setdefault(key, set()).update(pairs)
        words = {}
        for key, pairs in sorted(values.items()):
            has, own = (" or ".join(sorted(set(side))) for side in zip(*pairs, strict=True))
            words[key] = f"{key} is {has}, the protocol has {own}"
        return words


Found = Mapping[str, Collected]  # by name, all on real data or all on the demo world


def collect(protocol: Protocol, results: Results, seeds: Sequence[int] = ()) -> Collected:
    """Find results of a protocol and its seeds (or these), and those of other methods and seeds."""
    asked, protocol = protocol, _widen(select(protocol, seeds=seeds), results)
    runs = [(run, results.of(run)) for run in expand(protocol)]
    results.used |= {result.folder for _, result in runs if result}
    planned = Counter((run.row, run.dataset, run.classes, run.shots) for run, _ in runs)
    values: dict[str, dict[Place, dict[int, float]]] = {}
    parameters: dict[str, int] = {}
    deviating: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for run, result in runs:
        if result is None:
            continue
        place = (run.row, run.dataset, run.classes, run.shots)
        for name in (name for name in ("accuracy", *FURTHER) if name in result.data):
            by_place = values.setdefault(name, {})
            by_place.setdefault(place, {})[run.seed] = result.data[name]
        parameters.setdefault(run.row, result.data["trainable_parameters"])
        for key, (found, own) in deviations(run, result).items():
            of_row = deviating.setdefault(run.row, {})
            of_row.setdefault(key, set()).add((str(found), str(own)))
    further = {
        name: {place: score(by_place.get(place, {}), count) for place, count in planned.items()}
        for name, by_place in {"accuracy": {}, **values}.items()
    }
    scores = further.pop("accuracy") | _from_logs(protocol, results)
    return Collected(asked, protocol, scores, runs, parameters, deviating, further)


def _widen(protocol: Protocol, results: Results) -> Protocol:
    """Return a protocol with all methods and seeds that results were found for, next to its own."""
    seeds = sorted({r.data["seed"] for r in results.all} - set(protocol.seeds))
    own = {label: row for label, row in protocol.rows.items() if has_settings(row[0], protocol)}
    more = replace(protocol, rows=own, seeds=(*protocol.seeds, *seeds))
    found = {result.data["trainer"] for result in results.all}
    if not protocol.varies:
        more = select(more, trainers=["all"])
        order = {e["trainer"]: place for place, e in enumerate(entries("base2new"))}
        names = sorted(
            (t for t in more.rows if t in own or t in found),
            key=lambda t: (t in own, requires_training(t), order.get(t, len(order)), t),
        )
        more = select(more, trainers=names)
    # One training serves several transfers: what counts there is what was tested.
    transfer = protocol.table == "transfer"
    runs = [run for run in expand(more) if run.training is not None or not transfer]
    there = [run for run in runs if results.of(run)]
    rows = {run.row for run in there} | set(own)
    seeds = {run.seed for run in there if requires_training(run.trainer)} | set(protocol.seeds)
    return replace(
        more,
        rows={label: row for label, row in more.rows.items() if label in rows},
        seeds=tuple(sorted(seeds)),
    )


def _from_logs(protocol: Protocol, results: Results) -> dict[Place, Score]:
    """Return rows of what the logs of original code bases report, where it is the protocol's."""
    values: dict[Place, dict[int, float]] = {}
    if protocol.varies:
        return {}
    options = dict(zip(protocol.options[::2], protocol.options[1::2], strict=True))
    backbone = options.get("MODEL.BACKBONE.NAME", PAPER_BACKBONE)
    for log in results.logs:
        trains = log.trained_on == log.dataset and log.classes == protocol.train.classes
        tested = log.dataset in (protocol.train if protocol.same else protocol.test).datasets
        tests = tested and log.classes == protocol.test.classes
        if log.trained_on not in protocol.train.datasets or log.shots not in protocol.shots:
            continue
        if (trains or tests) and log.backbone in ("", backbone):
            place = (f"{log.trainer}{FROM_LOGS}", log.dataset, log.classes, log.shots)
            values.setdefault(place, {})[log.seed] = log.accuracy
    return {place: score(by_seed, len(protocol.seeds)) for place, by_seed in values.items()}


def reported(collected: Sequence[Collected]) -> list[Collected]:
    """Return the protocols that something was found for which is theirs.

    A run that several protocols share belongs to the first of them, if that is no study of variants
    (whose rows hold what others also need). A transfer is found where something was tested.
    """
    owners: dict[Path, list[int]] = {}
    for number, found in enumerate(collected):
        for folder in {run.folder for run, result in found.runs if result}:
            owners.setdefault(folder, []).append(number)

    def is_found(number: int, found: Collected) -> bool:
        runs = [run for run, result in found.runs if result]
        if found.protocol.table == "transfer":
            return any(run.training is not None for run in runs)
        firsts = [number] if not found.protocol.varies else None
        return any(o == [number] or o[:1] == firsts for o in (owners[r.folder] for r in runs))

    return [f for n, f in enumerate(collected) if f.has_logs or is_found(n, f)]
