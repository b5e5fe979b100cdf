"""What runs left behind, and where it belongs in a protocol."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.logs import read_logs
from benchmark.protocol import Protocol, dataset_stems, select
from benchmark.published import entries
from benchmark.runs import Run, expand, fits, learns
from benchmark.scores import Score, score
from benchmark.state import ASIDE, differences, expected, fingerprint

Cell = tuple[str, str, str, int]  # row, data set, classes, shots
FROM_LOGS = " (logs)"  # after the name of a method that the original code base ran


@dataclass(frozen=True)
class Result:
    """One finished evaluation: its folder, and what is in its results.json."""

    folder: Path
    data: Mapping

    @property
    def accuracy(self) -> float:
        return self.data["accuracy"]

    @property
    def command(self) -> str:
        return shlex.join(["python", *self.data["command"]])

    @property
    def seconds(self) -> float:
        return sum(self.data["seconds"].values())

    @property
    def of_runner(self) -> bool:
        """Whether its folder is one of the runner's layout."""
        return self.folder.parent.name.startswith("seed") and self.folder.name.startswith("t")


class Results:
    """All results below a folder.

    A run of a protocol is found in its own folder, or anywhere else if its configuration is exactly
    the protocol's: runs made by hand count as well.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.all = list(_find(output))
        self.logs = read_logs(output)
        self.used: set[Path] = set()
        self._placed = {result.folder.resolve(): result for result in self.all}
        self._by_hand = [result for result in self.all if not result.of_runner]

    def of(self, run: Run) -> Result | None:
        """The result of a run, or None where it is missing."""
        placed = self._placed.get((self.output / run.folder).resolve())
        return placed or next((r for r in self._by_hand if _is(r, run)), None)

    @property
    def others(self) -> list[Result]:
        """What no table has used."""
        return [result for result in self.all if result.folder not in self.used]


def _find(output: Path) -> Iterator[Result]:
    for path in sorted(output.rglob("results.json")):
        if any(ASIDE.search(part) for part in path.relative_to(output).parts):
            continue
        data = json.loads(path.read_text(encoding="utf-8"))
        if "accuracy" in data and "config" in data:
            yield Result(path.parent, data)


def _is(result: Result, run: Run) -> bool:
    """Whether a result made by hand is what a run would be, and of the same prompts."""
    data = result.data
    if (data["trainer"], data["seed"], dataset_stems().get(data["dataset"])) != (
        run.trainer,
        run.seed,
        run.dataset,
    ) or deviations(run, result):
        return False
    if not learns(run.trainer):
        return True
    checkpoint = data.get("evaluated_checkpoint")
    if checkpoint and not _is_final(checkpoint, data["config"]):
        return False
    if run.training is None:
        return True
    training = checkpoint and Path(checkpoint["path"]).parents[1] / "results.json"
    if not training or not training.exists():
        return False  # nobody can tell what these prompts were trained on
    before = json.loads(training.read_text(encoding="utf-8"))["config"]
    return fingerprint(before) == fingerprint(_config(run.of_training()))


def _is_final(checkpoint: Mapping, config: Mapping) -> bool:
    """Whether these are the prompts that a training ends with, not those of some epoch."""
    best = Path(checkpoint["path"]).name == "model-best.pth.tar"
    return best or checkpoint["epoch"] == config["OPTIM"]["MAX_EPOCH"]


def deviations(run: Run, result: Result) -> dict[str, tuple]:
    """Keys in which a result's configuration is not the protocol's, with both values."""
    return differences(result.data["config"], _config(run))


def _config(run: Run) -> Mapping:
    return expected(run.arguments("", Path("output")))


@dataclass(frozen=True)
class Collected:
    """A protocol with what was found of it.

    Attributes:
        protocol: with further methods and seeds where there are results of them.
        scores: by row, data set, classes and shots.
        runs: every run and its result, None where it is missing.
        parameters: trainable ones, by row.
        deviating: settings that are not the protocol's: key to (value found, the protocol's).
    """

    protocol: Protocol
    scores: Mapping[Cell, Score]
    runs: list[tuple[Run, Result | None]]
    parameters: Mapping[str, int]
    deviating: Mapping[str, set[tuple[str, str]]]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(row for row, *_ in self.scores))

    @property
    def any(self) -> bool:
        """Whether something was found that other protocols do not have as well.

        The method as it is belongs to all variants, one training to several transfers.
        """
        found = [cell for cell, score in self.scores.items() if score.mean is not None]
        if self.protocol.table == "transfer":
            return any(dataset in self.protocol.test.datasets for _, dataset, _, _ in found)
        return len({row for row, *_ in found}) > self.protocol.varies


def collect(protocol: Protocol, results: Results) -> Collected:
    """Find a protocol's results, its own rows and those of other methods and seeds."""
    protocol = _widen(protocol, results)
    runs = [(run, results.of(run)) for run in expand(protocol)]
    results.used |= {result.folder for _, result in runs if result}
    values: dict[Cell, dict[int, float]] = {}
    parameters: dict[str, int] = {}
    deviating: dict[str, set[tuple[str, str]]] = {}
    planned: dict[Cell, int] = {}
    for run, result in runs:
        cell = (run.row, run.dataset, run.classes, run.shots)
        planned[cell] = planned.get(cell, 0) + 1
        by_seed = values.setdefault(cell, {})
        if result is None:
            continue
        by_seed[run.seed] = result.accuracy
        parameters.setdefault(run.row, result.data["trainable_parameters"])
        for key, (found, own) in deviations(run, result).items():
            deviating.setdefault(key, set()).add((str(found), str(own)))
    scores = {cell: score(by_seed, planned[cell]) for cell, by_seed in values.items()}
    return Collected(
        protocol, {**scores, **_from_logs(protocol, results)}, runs, parameters, deviating
    )


def _widen(protocol: Protocol, results: Results) -> Protocol:
    """A protocol with all methods and seeds that results were found for, beside its own."""
    seeds = sorted({r.data["seed"] for r in results.all} - set(protocol.seeds))
    more = replace(protocol, seeds=(*protocol.seeds, *seeds))
    found = {result.data["trainer"] for result in results.all}
    if not protocol.varies:
        more = select(more, trainers=["all"])
        order = {entry.trainer: place for place, entry in enumerate(entries("base2new"))}
        names = sorted(
            (t for t in more.rows if t in protocol.rows or (t in found and fits(t, more.config))),
            key=lambda t: (t in protocol.rows, learns(t), order.get(t, len(order)), t),
        )
        more = select(more, trainers=names)
    # One training serves several transfers: what counts there is what was tested.
    transfer = protocol.table == "transfer"
    runs = [run for run in expand(more) if run.training is not None or not transfer]
    there = [run for run in runs if results.of(run)]
    rows = {run.row for run in there} | set(protocol.rows)
    seeds = {run.seed for run in there if learns(run.trainer)} | set(protocol.seeds)
    return replace(
        more,
        rows={label: row for label, row in more.rows.items() if label in rows},
        seeds=tuple(sorted(seeds)),
    )


def _from_logs(protocol: Protocol, results: Results) -> dict[Cell, Score]:
    """Rows of what the logs of original code bases tell, where it is the protocol's."""
    values: dict[Cell, dict[int, float]] = {}
    if protocol.varies:
        return {}
    for log in results.logs:
        trains = log.trained_on == log.dataset and log.classes == protocol.train.classes
        tested = log.dataset in (protocol.train if protocol.same else protocol.test).datasets
        tests = tested and log.classes == protocol.test.classes
        if log.trained_on not in protocol.train.datasets or log.shots not in protocol.shots:
            continue
        if trains or tests:
            cell = (f"{log.trainer}{FROM_LOGS}", log.dataset, log.classes, log.shots)
            values.setdefault(cell, {})[log.seed] = log.accuracy
    return {cell: score(by_seed, len(protocol.seeds)) for cell, by_seed in values.items()}
