"""Hours of training for the tables, against sums by hand."""

from pathlib import Path

import pytest

from benchmark import plan, protocol
from benchmark.speed.projection import project
from benchmark.workload import schedule, size
from experiment.cli import expected

BASE = {  # base classes of the eleven data sets
    "imagenet": 500, "caltech101": 50, "oxford_pets": 19, "stanford_cars": 98, "oxford_flowers": 51,
    "food101": 51, "fgvc_aircraft": 50, "sun397": 199, "dtd": 24, "eurosat": 5, "ucf101": 51,
}  # fmt: skip


def measured(*seconds: float, batch: int = 4) -> list[dict]:
    """Records of steps at 10, 20, ... classes."""
    return [
        {"what": "step", "classes": 10 * number, "batch": batch, "ours": {"seconds": value}}
        for number, value in enumerate(seconds, start=1)
    ]


def steps_and_classes(run: plan.Run) -> tuple[int, int]:
    cfg = expected(run.arguments("data", Path("output")))
    return schedule(cfg)[0], size(cfg)[0]


def test_steps_of_a_training():
    runs = plan.expand(
        protocol.select(protocol.load("base2new"), datasets=["caltech101"], seeds=[1])
    )
    training, testing = runs
    assert training.trains and not testing.trains
    assert steps_and_classes(training) == (30 * 50 * 16 // 4, 50)


def test_hours_of_table_1_are_a_line_over_the_classes():
    records = [*measured(1.1, 1.2, 1.3), *measured(99.0, 99.0, batch=32)]
    runs = [run for run in plan.expand(protocol.load("base2new")) if run.trains]
    counted = [steps_and_classes(run) for run in runs]
    assert sorted(classes for _, classes in counted) == sorted([*BASE.values()] * 3)
    by_hand = sum(steps * (1 + classes / 100) for steps, classes in counted) / 3600
    assert project(records, "ours")["base2new"] == pytest.approx(by_hand)


def test_no_step_takes_less_than_nothing():
    assert project(measured(0.0, 0.0), "ours")["base2new"] == pytest.approx(0.0)


@pytest.mark.parametrize("records", [[], measured(1.0), measured(1.0, 1.0, batch=32)])
def test_what_was_not_measured_has_no_hours(records):
    assert set(project(records, "ours").values()) == {None}
    assert set(project(measured(1.0, 1.0), "reference").values()) == {None}
