"""Mean ranks and the diagram: Demšar's figures, groups by hand, and where there is none."""

import pytest

from benchmark.report import figures
from benchmark.report.critical_difference import allowed, critical_difference, groups, mean_ranks

# Table 6 of Demšar (2006): AUC of four variants of C4.5 on 14 data sets, in thousandths. The two
# 975 on the last but one differ in a digit that is not printed: they have the ranks 2 and 3.
EXAMPLE = {
    "C4.5": [763, 599, 954, 628, 882, 936, 661, 583, 775, 1000, 940, 619, 972, 957],
    "C4.5+m": [768, 591, 971, 661, 888, 931, 668, 583, 838, 1000, 962, 666, 981, 978],
    "C4.5+cf": [771, 590, 968, 654, 886, 916, 609, 563, 866, 1000, 965, 614, 975.1, 946],
    "C4.5+m+cf": [798, 569, 967, 657, 898, 931, 685, 625, 875, 1000, 962, 669, 975, 970],
}


def test_mean_ranks_are_those_of_demsar_s_example():
    ranks = [3.143, 2.000, 2.893, 1.964]
    assert list(mean_ranks(EXAMPLE).values()) == pytest.approx(ranks, abs=5e-4)


def test_critical_differences_are_those_of_nemenyi_s_table():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    for methods, q in {2: 1.960, 3: 2.343, 6: 2.850, 10: 3.164}.items():
        unit = (methods * (methods + 1) / (6 * 11)) ** 0.5
        assert critical_difference(methods, 11) / unit == pytest.approx(q, abs=1e-3)


def test_groups_by_hand():
    assert groups([1.0, 2.0, 3.0, 5.5], 2.1) == [(1, 3)]
    assert groups([1.0, 2.0, 3.0, 4.5], 1.75) == [(1, 2), (2, 3), (3, 4.5)]
    assert groups([1.0, 3.0, 3.0], 2.0) == []  # at the critical difference they differ
    assert groups([1.0, 2.0, 2.0], 2.0) == [(1, 2)]


def test_the_numbers_must_allow_it():
    many = {str(k): [float(10 * n + k) for n in range(11)] for k in range(6)}
    assert allowed(many)
    assert not allowed({k: values[:10] for k, values in many.items()})
    assert not allowed(dict(list(many.items())[:5])) and not allowed({})
    assert not allowed({str(k): [float((k + n) % 6) for n in range(12)] for k in range(6)})
    assert not allowed(dict.fromkeys("abcdef", [1.0] * 11))


def test_it_is_drawn_of_methods_that_have_all_data_sets(found, tmp_path):
    trainers = ["ZeroshotCLIP", "CoOp", "KgCoOp", "MaPLe", "IVLP", "TCP", "MMLoP"]

    def accuracy(run):
        missing = run.row == "TCP" and run.dataset == "dtd"
        return None if missing else 70.0 + 2 * trainers.index(run.row) + 0.1 * run.seed

    both = [found("base2new", accuracy, trainers), found("few_shot", accuracy, trainers[2:])]
    (drawn,) = figures.draw_all(both, tmp_path, ["critical_difference"])
    assert drawn.protocol == "base2new" and "critical difference 2.27" in drawn.svg
    assert ">Base-to-new: HM" in drawn.svg and "Few-shot" not in drawn.svg
    assert "MMLoP 1.00" in drawn.svg and "6.00 ZeroshotCLIP" in drawn.svg
    assert "TCP" not in drawn.svg
