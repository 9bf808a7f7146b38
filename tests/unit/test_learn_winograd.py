"""Winograd's convolution against torch's in double precision."""

import pytest
import torch
import torch.nn.functional as F
from snnc.learn.winograd import convolve, suits
from torch import nn

pytest.importorskip("numba")

# Of the result's standard deviation. The transform's largest constants (4, 5, 8) cost about
# one decimal digit: 5e-5 in millions of outputs was the most that was seen, torch's own 5e-6.
SCALE = 1e-4


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def problem(into, out, height, width, *, samples=3):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, into, height, width, generator=generator)
    weight = torch.randn(out, into, 3, 3, generator=generator)
    arriving = torch.randn(samples, out, height, width, generator=generator)
    return images.requires_grad_(), weight.requires_grad_(), arriving


def results(convolution, images, weight, arriving):
    y = convolution(images, weight)
    return (y, *torch.autograd.grad(y, (images, weight), arriving))


def exact(images, weight, arriving):
    doubled = (t.detach().double().requires_grad_() for t in (images, weight))
    return results(lambda x, w: F.conv2d(x, w, padding=1), *doubled, arriving.double())


@pytest.mark.parametrize(
    "shape", [(32, 32, 4, 4), (32, 64, 8, 8), (64, 32, 5, 7), (96, 32, 14, 14), (32, 32, 33, 4)]
)
def test_output_and_both_gradients_are_those_of_the_convolution(shape):
    given = problem(*shape)
    for ours, true in zip(results(convolve, *given), exact(*given), strict=True):
        assert ours.shape == true.shape
        assert (ours - true).abs().max() < SCALE * true.std()


def test_any_memory_format_gives_the_same(threads):
    images, weight, _ = problem(32, 32, 8, 8)
    last = images.detach().contiguous(memory_format=torch.channels_last)
    assert torch.equal(convolve(images, weight), convolve(last, weight))


def test_only_the_wanted_gradients_are_computed():
    images, weight, arriving = problem(32, 32, 4, 4)
    y = convolve(images.detach(), weight)
    (gradient,) = torch.autograd.grad(y, weight, arriving)
    true = exact(images, weight, arriving)[2]
    assert (gradient - true).abs().max() < SCALE * true.std()


def test_several_threads_repeat_their_result_and_leave_the_number_of_threads_alone(threads):
    threads(3)
    given = problem(32, 32, 8, 8, samples=7)
    first, second = results(convolve, *given), results(convolve, *given)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.get_num_threads() == 3
    for ours, true in zip(first, exact(*given), strict=True):
        assert (ours - true).abs().max() < SCALE * true.std()


def test_inference_mode_reaches_all_threads(threads):
    threads(2)
    images, weight, _ = problem(32, 32, 8, 8)
    with torch.inference_mode():
        inferred = convolve(images, weight)
    assert torch.equal(inferred, convolve(images, weight))


def test_a_batch_of_no_images_has_no_output():
    images, weight, _ = problem(32, 32, 4, 4, samples=0)
    assert convolve(images, weight).shape == (0, 32, 4, 4)


def test_it_suits_a_3x3_convolution_of_many_channels(threads):
    threads(1)
    assert suits(nn.Conv2d(32, 64, 3, padding=1), torch.rand(2, 32, 8, 8))


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.Conv2d(32, 32, 3, padding=0),
        nn.Conv2d(32, 32, 3, padding="same"),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(32, 32, 3, padding=2, dilation=2),
        nn.Conv2d(32, 32, 3, padding=1, groups=2),
        nn.Conv2d(32, 32, 1),
        nn.Conv2d(32, 48, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1).double(),
    ],
    ids=str,
)
def test_it_does_not_suit_another_convolution(threads, convolution):
    threads(1)
    images = torch.rand(2, 32, 8, 8, dtype=convolution.weight.dtype)
    assert not suits(convolution, images)


def test_it_does_not_suit_small_maps_half_precision_or_small_batches_on_many_threads(threads):
    convolution, images = nn.Conv2d(32, 32, 3, padding=1), torch.rand(2, 32, 8, 8)
    threads(1)
    assert not suits(convolution, images[..., :2, :2])
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(convolution, images)
    threads(2)
    assert not suits(convolution, images)
