"""What the acceptance tests of the published derivatives leave out."""

import math

import pytest
import torch
from snnc.errors import InvalidSetting
from snnc.learn.surrogates import Surrogate, derivative


def test_the_box_ends_before_half_its_width():
    edge = torch.tensor([-0.5, 0.5])
    assert derivative(edge, Surrogate("box", 1.0)).tolist() == [0, 0]


@pytest.mark.parametrize("width", [0.0, -1.0, math.nan, math.inf])
def test_a_width_that_is_not_a_positive_number_is_refused(width):
    with pytest.raises(InvalidSetting, match="width"):
        Surrogate("triangle", width)
