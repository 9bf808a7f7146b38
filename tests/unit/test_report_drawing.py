"""The shapes that pictures are made of land where the numbers say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from snnc.report.markup import Markup, tag
from snnc.report.svg import Scale, cells, spread, ticks
from snnc.report.wording import THIN, with_prefix


def test_plain_text_is_escaped_and_markup_is_not():
    assert tag("p", "<b>", Markup("<i></i>")).html == "<p>&lt;b&gt;<i></i></p>"
    assert tag("p", title='"<').html == '<p title="&quot;&lt;"></p>'


def test_a_scale_maps_ends_to_ends_and_an_empty_range_to_the_middle():
    scale = Scale(0.0, 2.0, 100.0, 0.0)

    assert (scale(0.0), scale(0.5), scale(2.0)) == (100.0, 75.0, 0.0)
    assert Scale(1.0, 1.0, 0.0, 10.0)(1.0) == 5.0


@given(
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-6, 1e6),
    most=st.integers(1, 10),
)
def test_ticks_lie_within_the_range_and_are_not_too_many(low, span, most):
    high = low + span
    found = ticks(high, most, low)

    assert len(found) <= most + 1
    slack = 1e-6 * max(abs(low), abs(high), span)  # float64 of low + span
    assert all(low - slack <= value <= high + slack for value in found)
    assert list(found) == sorted(set(found))


@given(
    wanted=st.lists(st.floats(0, 300), min_size=1, max_size=6),
    gap=st.integers(1, 40),
)
def test_labels_keep_their_distance_their_order_and_the_frame(wanted, gap):
    placed = spread(wanted, gap, 0.0, 300.0)

    ordered = sorted(range(len(wanted)), key=lambda i: (wanted[i], i))
    tops = [placed[i] for i in ordered]
    assert all(b - a >= gap - 1e-9 for a, b in zip(tops, tops[1:], strict=False))  # float64
    assert tops[0] >= -1e-9
    assert tops[-1] <= 300.0


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_cells_cover_exactly_the_true_places(rows):
    mask = np.array(rows)
    path = cells(mask, "x").html

    drawn = np.zeros_like(mask)
    for piece in path.split('"')[1].split("M")[1:]:
        if "h" in piece:
            x, rest = piece.split(" ")
            row, length = rest.split("v")[0].split("h")
            drawn[int(row), int(x) : int(x) + int(length)] = True
    assert (drawn == mask).all()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 J"),
        (2.36e-8, "23.6 nJ"),
        (9.996e-7, "1.00 µJ"),
        (1.0, "1.00 J"),
        (104.4e-3, "104 mJ"),
        (5e-19, "0.000500 fJ"),
    ],
)
def test_quantities_get_the_prefix_that_keeps_them_short(value, text):
    assert with_prefix(value, "J").replace(THIN, " ") == text
