from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from snnc.errors import InvalidSetting
from snnc.evaluate.statistics import Paired, Proportion, mcnemar, proportion, wilson


@pytest.mark.parametrize(
    ("correct", "samples", "low", "high"),
    [  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (four decimals)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_is_the_published_one(correct, samples, low, high):
    assert wilson(correct, samples) == pytest.approx((low, high), abs=5e-5)  # printed digits


def test_the_wilson_interval_is_that_of_scipy():
    for correct, samples in [(0, 7), (7, 7), (3, 7), (341, 360), (9999, 10000)]:
        found = stats.binomtest(correct, samples).proportion_ci(0.95, method="wilson")
        # scipy rounds in another order
        assert wilson(correct, samples) == pytest.approx((found.low, found.high), abs=1e-12)


def test_the_interval_is_within_0_and_1_and_holds_the_share():
    for samples in (1, 2, 3, 50, 360):
        for correct in range(samples + 1):
            share = Proportion(correct=correct, samples=samples)
            assert 0.0 <= share.low <= share.value <= share.high <= 1.0


def test_a_proportion_is_counted_and_written():
    share = proportion(np.array([True, True, False, True]))
    low, high = wilson(3, 4)
    assert share.to_json() == {
        "correct": 3,
        "samples": 4,
        "value": 0.75,
        "low": low,
        "high": high,
    }


@pytest.mark.parametrize(("correct", "samples"), [(0, 0), (5, 4), (-1, 4)])
def test_a_share_of_nothing_is_refused(correct, samples):
    with pytest.raises(InvalidSetting, match="is not a share"):
        Proportion(correct=correct, samples=samples)


def test_mcnemar_counts_the_discordant_pairs():
    first = np.array([True, True, True, False, True, False])
    second = np.array([True, False, False, True, False, False])
    assert mcnemar(first, second) == Paired(only_first=3, only_second=1)
    assert mcnemar(second, first) == Paired(only_first=1, only_second=3)


def test_the_p_value_of_mcnemar_is_the_exact_binomial_one():
    for first, second in product(range(12), range(12)):
        expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
        found = Paired(only_first=first, only_second=second).p_value
        assert found == pytest.approx(expected, rel=1e-9)  # scipy sums floats


def test_the_p_value_of_many_pairs_does_not_overflow():
    assert Paired(only_first=4000, only_second=4000).p_value == 1.0
    assert Paired(only_first=0, only_second=2000).p_value == 0.0  # 2**-1999 underflows


def test_samples_that_do_not_pair_are_refused():
    with pytest.raises(InvalidSetting, match="cannot be paired"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
