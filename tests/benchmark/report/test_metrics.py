import pytest

from benchmark.report.cells import own
from benchmark.report.metrics import Score, average, harmonic, harmonic_mean, score


def test_by_hand():
    base, new = score({1: 80.0, 2: 90.0}, 3), score({1: 60.0, 2: 70.0}, 3)
    assert (base.mean, base.std) == (85, pytest.approx(50**0.5))
    hm = harmonic(base, new)
    own = [2 * 80 * 60 / 140, 2 * 90 * 70 / 160]
    assert hm.mean == pytest.approx(2 * 85 * 65 / 150)  # of the means, not the mean of HMs
    assert hm.std == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert harmonic_mean(0, 0) == 0


def test_an_average_takes_what_is_there_and_says_so():
    full, half, none = score({1: 1.0, 2: 3.0}, 2), score({2: 5.0}, 2), score({}, 2)
    assert average([full, half, none]) == Score(3.5, {2: 4.0}, 2, (2, 3))
    assert average([full, half, none]).partial and not average([full, half]).partial
    assert average([none]).mean is None


def test_data_sets_with_one_seed_each_make_an_average_of_one():
    """Whichever seeds they are: the average row counts them, though it has no deviation."""
    one, other = score({1: 60.0}, 3), score({2: 80.0}, 3)
    mean = average([one, other])
    assert (mean.mean, mean.std, mean.count, own(mean).text) == (70, None, 1, "70.00 (1 of 3)")
    hm = average([harmonic(one, other), harmonic(other, score({1: 60.0, 2: 70.0}, 3))])
    assert (hm.count, own(hm).text[-8:]) == (1, "(1 of 3)")
    assert average([score({1: 1.0, 2: 3.0}, 3), score({2: 5.0, 3: 5.0}, 3)]).count == 2
