"""The streaming percentile: the exact one, and the one from bins within its stated bound."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snnc.errors import InvalidSetting
from snnc.learn.percentile import (
    BINS,
    KEPT,
    PIECE,
    Histogram,
    Largest,
    from_top,
    percentile,
    stream,
)

SMALLEST = 2.0**-20  # below it a histogram tells values apart no more


def drawn(*shape, seed=0, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def fed(finder, values, parts):
    """Return what a finder makes of values (rows, n) that come in parts of these sizes."""
    for part in values.split(parts, dim=1):
        finder.add(part)
    return finder.result()


@pytest.mark.parametrize(("n", "expected"), [(1000, 997), (64, 64)])
def test_the_percentile_is_the_counted_order_statistic(n, expected):
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(3)) + 1
    assert percentile(shuffled.float(), 99.7) == expected
    streamed = fed(stream(rows=1, count=n, rho=99.7), shuffled.float()[None], n)
    assert streamed.tolist() == [expected]


def test_the_percentile_counts_negative_values():
    values = torch.tensor([-3.0, -2.0, -1.0, 5.0])
    assert percentile(values, 50.0) == -1.0
    assert fed(stream(rows=1, count=4, rho=50.0), values[None], 1).tolist() == [-1.0]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 4),
    count=st.integers(1, 300),
    part=st.integers(1, 120),
    rho=st.floats(0.1, 100.0),
    levels=st.sampled_from([2, 7, 10**6]),  # few levels: many equal values
    seed=st.integers(0, 99),
)
def test_the_largest_values_give_the_exact_percentile(rows, count, part, rho, levels, seed):
    values = (drawn(rows, count, seed=seed) * levels).round() / levels
    found = fed(Largest(rows=rows, count=count, rho=rho), values, part)
    assert found.tolist() == [percentile(row, rho) for row in values]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.sampled_from([1, 3, 20]),
    count=st.integers(1, 200),
    part=st.integers(1, 120),
    rho=st.floats(0.1, 100.0),
    scale=st.sampled_from([1e-5, 1.0, 1e8]),
    seed=st.integers(0, 99),
)
def test_the_bins_give_a_percentile_within_the_bound(rows, count, part, rho, scale, seed):
    values = drawn(rows, count, seed=seed, scale=scale)
    finder = Histogram(rows=rows, count=count, rho=rho, bins=1 << 20)
    found = fed(finder, values, part)
    exact = torch.tensor([percentile(row, rho) for row in values])
    large = exact > SMALLEST
    assert (abs(found - exact)[large] <= finder.error * exact[large]).all()
    assert (found[~large] == 0).all()


def test_the_bound_is_what_the_memory_allows():
    errors = {rows: Histogram(rows=rows, count=10, rho=50.0).error for rows in (1, 100, 1000)}
    assert errors == {rows: 2.0**-p + 2.0**-24 for rows, p in {1: 13, 100: 11, 1000: 7}.items()}


def test_the_bound_is_nearly_reached():
    # one value just above the start of a bin: the result is the middle
    finder = Histogram(rows=1, count=1, rho=50.0)
    found = fed(finder, torch.tensor([[1.0]]), 1).item()
    assert found == 1 + 2.0**-13


def test_values_of_float64_that_round_into_the_next_bin_stay_within_the_bound():
    values = torch.tensor([[2.0 - 2.0**-40]], dtype=torch.float64)
    finder = Histogram(rows=1, count=1, rho=50.0)
    assert abs(fed(finder, values, 1).item() - 2) <= finder.error * 2


def test_few_values_are_kept_and_many_are_counted():
    exact = stream(rows=1, count=KEPT, rho=1.0)
    papers = stream(rows=1, count=100 * 64 * 64 * 32 * 32, rho=99.7)
    many = stream(rows=1, count=KEPT * 4, rho=50.0)
    assert isinstance(exact, Largest) and isinstance(papers, Largest)
    assert isinstance(many, Histogram)
    assert from_top(100 * 64 * 64 * 32 * 32, 99.7) == 1_258_292


def test_too_many_rows_to_count_are_refused():
    with pytest.raises(InvalidSetting, match=r"percentile 50 of 10000 values for each of \d+ thr"):
        stream(rows=BINS // 1000, count=10_000, rho=50.0)


def test_a_row_keeps_no_more_than_twice_what_it_needs_and_one_part():
    values = drawn(1, 100_000)
    finder = Largest(rows=1, count=100_000, rho=99.0)
    for part in values.split(500, dim=1):
        finder.add(part)
        held = finder._kept.shape[1] + sum(new.shape[1] for new in finder._new)
        assert held <= 2 * 1001 + 500
    assert finder.result().item() == percentile(values, 99.0)


def test_a_part_of_any_size_is_taken():
    values = drawn(1, 3 * PIECE + 1)
    for rho in (50.0, 99.9):
        finder = Largest(rows=1, count=values.numel(), rho=rho)
        assert fed(finder, values, values.numel()).item() == percentile(values, rho)
