"""Paired differences, tests and intervals: against scipy, by hand, and on equal methods."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from benchmark.report.metrics import harmonic_mean, score
from benchmark.report.significance import comparisons, holm, interval, paired, wilcoxon

SIMULATIONS = 1000
CHANCE = 3 * (0.05 * 0.95 / SIMULATIONS) ** 0.5  # three standard deviations of a rate of 5%


def signed_rank_p(differences: list[float]) -> float:
    """Sum over all signs that the differences may have: the definition, zeros split evenly."""
    ranks = stats.rankdata(np.abs(differences))
    ranks = ranks[np.asarray(differences) != 0]
    signs = np.sign([d for d in differences if d])
    sums = [abs(sum(ranks * each)) for each in product((-1, 1), repeat=len(ranks))]
    return np.mean(np.array(sums) >= abs(sum(ranks * signs)) - 1e-9)


def test_differences_are_those_of_the_seeds_that_both_have():
    gap = paired(score({1: 80.0, 2: 82.0, 3: 90.0}, 3), score({3: 91.0, 1: 77.0}, 3))
    assert gap.by_seed == {1: 3, 3: -1} and (gap.mean, gap.planned) == (1, 3)
    assert paired(score({1: 80.0}, 2), score({2: 80.0}, 2)).mean is None
    assert paired(score({}, 2), score({1: 80.0}, 1)).mean is None


def test_what_is_not_trained_counts_at_every_seed():
    trained, untrained = score({2: 80.0, 3: 82.0}, 2), score({1: 70.0}, 1)
    assert paired(trained, untrained).by_seed == {2: 10, 3: 12}
    assert paired(untrained, trained).by_seed == {2: -10, 3: -12}


@pytest.mark.parametrize("datasets", [6, 9, 11])
def test_wilcoxon_is_scipy_s_exact_test(datasets):
    values = np.random.default_rng(datasets).normal(0.5, size=datasets)
    expected = stats.wilcoxon(values, method="exact").pvalue
    assert wilcoxon(values) == pytest.approx(expected) == pytest.approx(signed_rank_p(values))


def test_wilcoxon_is_exact_with_ties_and_zeros():
    for values in ([1, 1, -1, 0, 0, 2, 3], [2, 2, 2, -2, 1, 1, 5, 0], [0] * 6, [0, 1, 1, 1, 1, 1]):
        assert wilcoxon(values) == pytest.approx(signed_rank_p(values))
    thirds = [0.1 + 0.2, 0.3, -0.3, 0.6, 0.7, 0.8]  # two are equal but for rounding
    assert wilcoxon(thirds) == pytest.approx(signed_rank_p([3, 3, -3, 6, 7, 8]))


def test_wilcoxon_on_the_example_of_demsar():
    """Table 2 of his paper: C4.5 with parameter m and without on 14 data sets, z = -2.54."""
    without = [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957]
    with_m = [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978]
    p = wilcoxon(np.subtract(with_m, without))
    assert p == pytest.approx(2 * stats.norm.cdf(-2.54), abs=3e-4)


def test_six_data_sets_are_the_fewest():
    assert wilcoxon([1, 2, 3, 4, 5, 6]) == 2 / 2**6
    assert wilcoxon([1, 2, 3, 4, 5]) is None
    assert stats.wilcoxon([1, 2, 3, 4, 5]).pvalue == 2 / 2**5 > 0.05


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1, 1] and holm([0.04]) == [0.04] and holm([]) == []


@pytest.mark.parametrize("seeds", [5, 300])
def test_interval_is_scipy_s_stratified_bootstrap_but_for_its_width(seeds):
    draws = np.random.default_rng(seeds)
    strata = [draws.normal(3, 1, seeds), draws.normal(1, 2, seeds)]

    def mean(one, other, axis=-1):
        return (one.mean(axis) + other.mean(axis)) / 2

    theirs = stats.bootstrap(strata, mean, method="percentile", n_resamples=20_000, rng=draws)
    middle, (a, b) = mean(*strata), (each.var(ddof=1) / seeds for each in strata)
    freedom = (a + b) ** 2 / ((a**2 + b**2) / (seeds - 1))
    widening = (seeds / (seeds - 1)) ** 0.5 * stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)
    plain = (interval(strata) - middle) / widening + middle
    assert plain == pytest.approx(theirs.confidence_interval, abs=0.1 * np.sqrt(a + b))
    assert widening == pytest.approx(1, abs=0.01) or seeds == 5


def test_interval_by_hand():
    """Two seeds: their mean is the first, both, or the second in 1, 2 and 1 of 4 draws."""
    half = 2**0.5 * 12.7062 / 1.95996
    assert interval([[1, 3]]) == pytest.approx([2 - half, 2 + half], abs=1e-3)
    assert interval([[1, 1], [2, 2, 2]]).tolist() == [1.5, 1.5]
    assert interval([[1, 2], [3]]) is None


@pytest.mark.parametrize("datasets", [6, 11])
def test_equal_methods_give_false_alarms_at_the_rate_of_the_test(datasets):
    values = np.random.default_rng(0).standard_t(3, size=(datasets, SIMULATIONS))
    sums = [sum(ranks) for ranks in product(*[(0, k + 1) for k in range(datasets)])]
    levels = [2 * np.mean(np.array(sums) <= each) for each in sorted(set(sums))]
    rate = max(level for level in levels if level <= 0.05)  # an exact test has steps
    assert np.mean(wilcoxon(values) <= 0.05) == pytest.approx(rate, abs=CHANCE)
    assert np.mean(wilcoxon(values + 2) <= 0.05) > 0.5


def test_holm_keeps_the_rate_for_all_methods_together():
    """Seven equal methods, compared with the same eighth, on eleven data sets."""
    own = np.random.default_rng(1).normal(size=(8, 11, SIMULATIONS))
    values = np.array([wilcoxon(own[0] - other) for other in own[1:]])
    alarms = [min(holm(each)) <= 0.05 for each in values.T]
    assert 0.01 < np.mean(alarms) < 0.05 + CHANCE
    assert np.mean(values.min(axis=0) <= 0.05) > 0.1  # without the correction


@pytest.mark.parametrize(
    ("datasets", "seeds", "outlier"), [(1, 5, 1), (3, 3, 1), (11, 3, 1), (11, 5, 1), (11, 3, 5)]
)
def test_the_interval_misses_as_often_as_it_says(datasets, seeds, outlier):
    """Also with a data set that swings between seeds as EuroSAT does."""
    values = np.random.default_rng(2).normal(size=(datasets, seeds, SIMULATIONS))
    values[0] *= outlier
    low, high = interval(values, resamples=1000)
    assert 0.02 < np.mean((low > 0) | (high < 0)) < 0.05 + CHANCE


DATASETS = [
    *("imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101"),
    *("fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101"),
]
TRAINERS = ["ZeroshotCLIP", "IVLP", "MMLoP"]


def methods(run):
    """One data set after another: MMLoP is ahead of IVLP by its number, and of zero-shot by 10."""
    place = DATASETS.index(run.dataset)
    ahead = {"MMLoP": 0.0, "IVLP": -float(place), "ZeroshotCLIP": -10.0}
    return 80.0 + ahead[run.row] + (run.classes == "new") + 0.5 * run.seed * (run.row == "MMLoP")


def test_the_tables_by_hand(found):
    summary, base, new, hm = comparisons(found("base2new", methods, TRAINERS), "MMLoP")
    lines = {
        (r[0].text, r[1].text): dict(zip(summary.header, r, strict=True)) for r in summary.rows
    }
    assert list(lines) == [(m, c) for c in ("base", "new", "HM") for m in TRAINERS[:2]]
    ivlp = lines["IVLP", "base"]
    assert ivlp["difference"].value == pytest.approx(5 + 1) and ivlp["difference"].seeds == 3
    assert [ivlp[name].value for name in ("wins", "ties", "losses")] == [11, 0, 0]
    assert ivlp["95% from"].value < 6 < ivlp["to"].value
    assert ivlp["p"].value == 2 / 2**11 and ivlp["p (Holm)"].value == 2 * 2 / 2**11
    assert lines["ZeroshotCLIP", "new"]["difference"].text == "11.00 ± 0.50 (3)"
    assert base.header[1:-1] == DATASETS and hm.title.endswith("HM by data set")
    own = [harmonic_mean(80 + s / 2, 81 + s / 2) - harmonic_mean(75, 76) for s in (1, 2, 3)]
    (cell,) = [r[1 + 5] for r in hm.rows if r[0].text == "IVLP"]
    assert cell.value == pytest.approx(np.mean(own)) and cell.std == pytest.approx(
        np.std(own, ddof=1)
    )
    assert new.rows[1][1].text == "1.00 ± 0.50 (3)"


def test_few_data_sets_have_no_p_and_the_table_says_why(found):
    few = found("base2new", methods, TRAINERS, datasets=DATASETS[:5])
    summary, *_ = comparisons(few, "MMLoP")
    assert all(row[-1].text == row[-2].text == "" for row in summary.rows)
    assert "No p-value with fewer than 6 data sets (here 5)" in summary.notes[-1]
    assert "p would be 0.0625, above 0.05" in summary.notes[-1]


def test_shots_are_columns_and_missing_data_sets_are_left_out(found):
    def accuracy(run):
        return None if run.dataset == "dtd" and run.row == "IVLP" else 50.0 + run.shots

    summary, *rest = comparisons(found("few_shot", accuracy, TRAINERS), "IVLP")
    assert len(rest) == 5 and [row[1].text for row in summary.rows[::2]][:2] == [
        "1 shot",
        "2 shots",
    ]
    (ties,) = {row[6].value for row in summary.rows if row[0].text == "MMLoP"}
    assert ties == 10 and rest[0].rows[0][1 + DATASETS.index("dtd")].text == "missing"


def test_without_another_row_there_is_nothing(found):
    alone = found("base2new", methods, ["MMLoP"])
    assert comparisons(alone, "MMLoP") == [] == comparisons(alone, "CoOp")
