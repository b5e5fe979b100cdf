import json

import pytest

from benchmark import published
from benchmark.scores import Score, average, harmonic, harmonic_mean, score

# Where the stated average does not follow from the stated data sets, to the last digit.
MISMATCHES = {"KgCoOp": ["new"], "ProGrad": ["new"], "MMA": ["new", "HM"]}
WITH_DATASETS = [entry for entry in published.entries("base2new") if entry.datasets]


@pytest.mark.parametrize("entry", WITH_DATASETS, ids=lambda entry: entry.method)
def test_published_data_sets_give_the_published_averages(entry):
    base, new = (
        average([score({1: figures[half]}, 1) for figures in entry.datasets.values()])
        for half in (0, 1)
    )
    found = {"base": base, "new": new, "HM": harmonic(base, new)}
    wrong = [
        metric
        for metric, stated in zip(published.METRICS, entry.average, strict=True)
        if f"{found[metric].mean:.2f}" != f"{stated:.2f}"
    ]
    assert wrong == MISMATCHES.get(entry.method, [])
    assert bool(wrong) <= bool(entry.note)  # each mismatch is told beside its figure


def test_enough_methods_are_compared():
    exact = [entry for entry in WITH_DATASETS if entry.method not in MISMATCHES]
    assert len(exact) >= 5 and all(len(entry.datasets) == 11 for entry in exact)


@pytest.mark.parametrize("table", ["domain_generalization", "cross_dataset"])
def test_published_targets_give_the_published_averages(table):
    compared = 0
    for entry in published.entries(table):
        targets = [value for name, value in entry.datasets.items() if name != "imagenet"]
        if targets:
            mean = average([score({1: value}, 1) for value in targets]).mean
            stated = f"{entry.average:.2f}"
            # A half may have been rounded to either side.
            assert (
                stated in (f"{mean - 5e-3:.2f}", f"{mean:.2f}", f"{mean + 5e-3:.2f}") or entry.note
            )
            compared += 1
    assert compared >= 9


def test_figures_are_those_of_the_collection(shared_data):
    """Each one of ours is in the collection that it was taken from."""
    theirs = json.loads((shared_data / "published.json").read_text())["base_to_novel"]
    for entry in WITH_DATASETS:
        assert {name: theirs[entry.method][name] for name in entry.datasets} == entry.datasets
        assert theirs[entry.method]["average"] == entry.average


def test_every_figure_names_its_source():
    tables = ("base2new", "domain_generalization", "cross_dataset", "few_shot")
    for table in (*tables, "ablation_components", "ablation_rank"):
        assert published.entries(table)
        assert all(entry.source for entry in published.entries(table))


def test_by_hand():
    base, new = score({1: 80.0, 2: 90.0}, 3), score({1: 60.0, 2: 70.0}, 3)
    assert (base.mean, base.std) == (85, pytest.approx(50**0.5))
    hm = harmonic(base, new)
    own = [2 * 80 * 60 / 140, 2 * 90 * 70 / 160]
    assert hm.mean == pytest.approx(2 * 85 * 65 / 150)  # of the means, not the mean of HMs
    assert hm.std == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert harmonic_mean(0, 0) == 0


def test_an_average_takes_what_is_there():
    full, half, none = score({1: 1.0, 2: 3.0}, 2), score({2: 5.0}, 2), score({}, 2)
    assert average([full, half, none]) == Score(3.5, {2: 4.0}, 2)
    assert average([none]).mean is None
