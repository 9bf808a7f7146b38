"""Images become codes exactly, or are refused."""

import numpy as np
import pytest
from snnc.errors import InvalidSetting
from snnc.ir.program import ImageInput
from snnc.ir.weights import integers
from snnc.semantics.encode import encode


def coding(shape=(1,), levels=255, zero_point=None):
    zero_point = np.zeros(shape[0]) if zero_point is None else zero_point
    return ImageInput(shape=shape, levels=levels, zero_point=integers(zero_point))


def test_black_is_0_and_white_is_the_number_of_levels():
    codes = encode(coding((3,)), np.array([[0.0, 1.0, 100 / 255]]))
    assert codes.tolist() == [[0, 255, 100]]
    assert codes.dtype == np.int32


@pytest.mark.parametrize(
    ("levels", "code"), [(1, 0), (3, 2), (5, 2), (7, 4), (9, 4)]
)  # 0.5, 1.5, 2.5, 3.5, 4.5
def test_a_half_goes_to_the_even_code(levels, code):
    assert encode(coding(levels=levels), np.array([[0.5]])).tolist() == [[code]]


def test_a_float32_pixel_is_scaled_in_float64():
    pixel = np.float32(0.0019607844296842813)  # 0.5 / 255 and a little more
    assert np.rint(pixel * np.float32(255)) == 0  # what float32 would make of it
    assert encode(coding(), np.array([[pixel]])).tolist() == [[1]]


def test_each_channel_of_a_map_has_its_zero_point():
    images = np.zeros((1, 2, 1, 3))
    images[0, 1] = 1.0
    codes = encode(coding((2, 1, 3), levels=15, zero_point=[4, 9]), images)
    assert codes.tolist() == [[[[-4, -4, -4]], [[6, 6, 6]]]]


def test_each_neuron_of_a_flat_input_has_its_zero_point():
    codes = encode(coding((3,), levels=10, zero_point=[0, 5, 10]), np.full((2, 3), 0.5))
    assert codes.tolist() == [[5, 0, -5], [5, 0, -5]]


def test_no_image_is_no_code():
    assert encode(coding((2, 3, 3)), np.zeros((0, 2, 3, 3))).shape == (0, 2, 3, 3)


def test_encoding_leaves_the_images_alone():
    images = np.full((1, 1), 0.25)
    encode(coding(zero_point=[7]), images)
    assert images.tolist() == [[0.25]]


@pytest.mark.parametrize("pixel", [-1e-9, 1.0 + 1e-9, np.nan, np.inf, -np.inf, 128.0])
def test_a_pixel_outside_0_to_1_is_refused(pixel):
    images = np.array([[0.5, pixel, 0.5]])
    with pytest.raises(InvalidSetting, match=r"the program reads \[0, 1\]; scale the images"):
        encode(coding((3,)), images)


@pytest.mark.parametrize("shape", [(2, 4), (1, 4, 2), (2,), (1, 2, 4, 1)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(InvalidSetting, match=r"the program reads \(2, 4\); pass \(samples"):
        encode(coding((2, 4)), np.zeros(shape))
