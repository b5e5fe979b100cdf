"""Made-up findings: a protocol with any accuracy per run, without files."""

import pytest

from benchmark.plan import expand
from benchmark.protocol import load, select
from benchmark.report.collect import Collected
from benchmark.report.metrics import score


def make_found(
    name: str, accuracy, trainers=(), deviating=None, demo: bool = False, datasets=()
) -> Collected:
    """Return what `accuracy(run)` makes of a protocol's runs; None: the run is missing."""
    asked = select(load(name, demo), datasets=datasets)
    protocol = select(asked, trainers=trainers) if trainers else asked
    values, planned = {}, {}
    for run in expand(protocol):
        place = (run.row, run.dataset, run.classes, run.shots)
        planned[place] = planned.get(place, 0) + 1
        value = accuracy(run)
        values.setdefault(place, {}).update({} if value is None else {run.seed: value})
    scores = {place: score(by_seed, planned[place]) for place, by_seed in values.items()}
    return Collected(asked, protocol, scores, [], {}, deviating or {})


@pytest.fixture
def found():
    return make_found
