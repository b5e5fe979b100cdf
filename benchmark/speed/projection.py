"""Compute the hours that training for the paper's tables takes, from measured steps.

Seconds are a straight line over the number of classes. Evaluations (some hundredths of the whole)
and loading data are not in it.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from numpy.polynomial import Polynomial

from benchmark import protocol
from benchmark.plan import expand
from benchmark.workload import schedule, size
from experiment.cli import expected


def project(records: Iterable[Mapping], side: str) -> dict[str, float | None]:
    """Return hours on one device by protocol; None where steps were not measured at its batch
    size with two numbers of classes."""
    lines = {}
    measured = [r for r in records if r["what"] == "step" and "seconds" in r.get(side, {})]
    for batch in {record["batch"] for record in measured}:
        points = {r["classes"]: r[side]["seconds"] for r in measured if r["batch"] == batch}
        if len(points) > 1:
            lines[batch] = Polynomial.fit(list(points), list(points.values()), 1)
    return {name: _hours(name, lines) for name in protocol.ORDER}


def _hours(name: str, lines: Mapping[int, Polynomial]) -> float | None:
    seconds = 0.0
    for run in expand(protocol.select(protocol.load(name), seeds=[1])):
        if run.trains:
            cfg = expected(run.arguments("data", Path("output")))
            classes, (steps, batch) = size(cfg)[0], schedule(cfg)
            if batch not in lines:
                return None
            seconds += steps * max(0.0, lines[batch](classes))
    return float(seconds) * len(protocol.load(name).seeds) / 3600
