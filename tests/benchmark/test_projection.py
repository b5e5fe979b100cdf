"""Hours of the tables, against sums by hand."""

import pytest

from benchmark import protocol
from benchmark.plan import expand
from benchmark.speed import projection

BASE = {  # base classes of the eleven data sets
    "imagenet": 500, "caltech101": 50, "oxford_pets": 19, "stanford_cars": 98, "oxford_flowers": 51,
    "food101": 51, "fgvc_aircraft": 50, "sun397": 199, "dtd": 24, "eurosat": 5, "ucf101": 51,
}  # fmt: skip


def costs(step=0.0, first=0.0, again=0.0, text=0.0, image=0.0) -> projection.Costs:
    """That do not depend on the classes."""
    return projection.Costs(*(lambda _, v=v: v for v in (step, first, again, text, image)))


def record(what: str, classes: int, seconds: float, **more) -> dict:
    side = {"seconds": seconds, **more.pop("side", {})}
    return {"what": what, "classes": classes, "ours": side, **more}


def measured(step: float, start=(0.0, 0.0), text=0.0, image=0.0) -> list[dict]:
    """Records of 10 and 100 classes."""
    parts = {"cold": {"whole": start[0]}, "warm": {"whole": start[1]}}
    return [
        each
        for classes in (10, 100)
        for each in (
            record("step", classes, step, batch=4),
            record("step", classes, 99.0, batch=32),
            record("start", classes, 0.0, side={"parts": parts}),
            record(
                "evaluation",
                classes,
                text + 100 * image,
                images=100,
                side={"text_seconds": text},
            ),
        )
    ]


def test_lines_go_through_the_points_and_on():
    at = projection.line({100: 3.0, 10: 1.2, 50: 2.0})
    assert at(10) == pytest.approx(1.2)
    assert at(30) == pytest.approx(1.6)
    assert at(75) == pytest.approx(2.5)
    assert at(200) == pytest.approx(5.0)
    assert at(5) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("dataset", "classes", "count", "images"),
    [("eurosat", "base", 5, 4200), ("dtd", "new", 23, 828), ("sun397", "all", 397, 19850),
     ("imagenet_a", "all", 200, 7500), ("imagenetv2", "all", 1000, 10000)],
)  # fmt: skip
def test_counts_of_data_sets(dataset, classes, count, images):
    assert projection.count_classes(dataset, classes) == count
    assert projection.count_images(dataset, classes) == images


def test_every_data_set_of_the_paper_has_counts():
    for name in protocol.ORDER:
        for run in expand(protocol.load(name)):
            assert projection.count_images(run.dataset, run.classes) > 0
            assert projection.count_classes(run.dataset, run.classes) > 0


def test_a_training_is_its_start_its_steps_and_its_evaluation():
    runs = expand(protocol.select(protocol.load("base2new"), datasets=["caltech101"], seeds=[1]))
    training, testing = runs
    steps = 30 * 50 * 16 // 4
    assert projection.seconds(training, lambda _: costs(step=1.0), again=False) == steps
    assert projection.seconds(training, lambda _: costs(first=7.0, again=2.0), again=False) == 7
    assert projection.seconds(training, lambda _: costs(first=7.0, again=2.0), again=True) == 2
    assert projection.seconds(testing, lambda _: costs(step=1.0, text=3.0), again=True) == 3
    assert projection.seconds(testing, lambda _: costs(image=0.5), again=True) == 916 / 2


def test_hours_of_table_1():
    (table,) = (r for r in projection.project(measured(1.0), ["ours"]) if r["table"] == "base2new")
    steps = 3 * 30 * sum(classes * 16 // 4 for classes in BASE.values())
    assert table["ours"] == pytest.approx(steps / 3600)
    assert (table["trainings"], table["evaluations"]) == (33, 66)


def test_features_are_made_once_for_a_set_of_classes():
    rows = projection.project(measured(0.0, start=(60.0, 1.0)), ["ours"])
    hours = {row["table"]: row["ours"] for row in rows}
    assert hours["base2new"] == pytest.approx((22 * 60 + 44 * 1) / 3600)
    assert hours["ablation_rank"] == pytest.approx((22 * 60 + (3 * 66 - 22) * 1) / 3600)


def test_runs_that_tables_share_count_once_in_the_sum():
    rows = projection.project(measured(1.0), ["ours"])
    *tables, together = rows
    assert together["table"] == "all, each run once"
    assert together["ours"] < sum(table["ours"] for table in tables)


def test_what_was_not_measured_has_no_hours():
    rows = projection.project(measured(1.0)[:4], ["ours", "reference"])
    assert all(row["ours"] is None and row["reference"] is None for row in rows)
