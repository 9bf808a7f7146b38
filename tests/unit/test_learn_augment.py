"""Augmentation: what each step does to an image, and where its draws come from."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from snnc.errors import InvalidSetting
from snnc.learn import augment as module
from snnc.learn.augment import (
    Augmentation,
    Crop,
    Cutout,
    Flip,
    ResizedCrop,
    augment,
    channel_means,
)

STEPS = {
    "crop": Crop(padding=4),
    "flip": Flip(),
    "cutout": Cutout(size=8),
    "resized_crop": ResizedCrop(least_area=0.08, narrowest=0.75),
}
EACH = pytest.mark.parametrize("step", list(STEPS.values()), ids=list(STEPS))
FILL = torch.tensor([0.25, 0.5, 0.75])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=64, height=32, width=32):
    return torch.rand(count, 3, height, width, generator=seeded(7))


def places(count, height=32, width=32):
    """Return images whose one channel says where each pixel is: 1, 2, ... over their number."""
    values = torch.arange(1, height * width + 1, dtype=torch.float32) / (height * width)
    return values.view(1, 1, height, width).repeat(count, 1, 1, 1)


def run(images, *steps, seed=0):
    return augment(images, steps, FILL[: images.shape[1]], seeded(seed))


@EACH
def test_shape_and_type_stay_and_values_stay_in_range(step):
    images = noise(height=24)
    found = run(images, step)
    assert found.shape == images.shape
    assert found.dtype == torch.float32
    assert found.min() >= 0.0 and found.max() <= 1.0


@EACH
def test_the_input_is_not_changed(step):
    images = noise()
    run(images, step)
    assert torch.equal(images, noise())


@EACH
def test_the_same_generator_gives_the_same_images_and_another_does_not(step):
    images = noise()
    assert torch.equal(run(images, step, seed=3), run(images, step, seed=3))
    assert not torch.equal(run(images, step, seed=3), run(images, step, seed=4))


@EACH
def test_nothing_is_drawn_from_the_global_stream(step):
    before = torch.get_rng_state()
    run(noise(), step)
    assert torch.equal(torch.get_rng_state(), before)


@EACH
def test_every_image_of_a_batch_gets_its_own_draw(step):
    images = noise(1).repeat(64, 1, 1, 1)
    found = run(images, step)
    different = len({image.numpy().tobytes() for image in found})
    assert different == 2 if step == Flip() else different >= 32


@EACH
def test_channels_last_images_become_the_same(step):
    images = noise()
    last = images.to(memory_format=torch.channels_last)
    # grid_sample may sum its four products in another order: one ulp of 1
    torch.testing.assert_close(run(last, step), run(images, step), atol=1.2e-7, rtol=0)


@EACH
def test_a_batch_of_none_stays_one_of_none(step):
    assert run(noise(0), step).shape == (0, 3, 32, 32)


def test_no_steps_change_nothing():
    images = noise()
    assert torch.equal(run(images), images)


def test_steps_are_taken_in_order():
    images = noise()
    stream = seeded()
    one = augment(images, (Crop(padding=2),), FILL, stream)
    two = augment(one, (Cutout(size=8),), FILL, stream)
    assert torch.equal(run(images, Crop(padding=2), Cutout(size=8)), two)


def shift_of(image, padding, height, width):
    """Return by how much an image of `places` moved down and right."""
    for down in range(-padding, padding + 1):
        for right in range(-padding, padding + 1):
            moved = F.pad(places(1, height, width)[0], [right, -right, down, -down])
            if torch.equal(image, moved):
                return down, right
    raise AssertionError("the image did not move as a whole")


def test_a_crop_moves_the_image_and_black_moves_in():
    found = run(places(200, 6, 9), Crop(padding=1))
    shifts = [shift_of(image, 1, 6, 9) for image in found]
    assert set(shifts) == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}


def test_crops_move_by_every_distance_alike():
    shifts = [shift_of(image, 2, 4, 4) for image in run(places(2500, 4, 4), Crop(padding=2))]
    counts = torch.tensor([shifts.count((a, b)) for a in range(-2, 3) for b in range(-2, 3)])
    assert counts.sum() == 2500
    assert (counts - 100).abs().max() <= 40  # four deviations of a binomial with mean 100


def test_a_flip_mirrors_half_of_the_images_and_leaves_the_others():
    images = noise(1000, 4, 4)
    found = run(images, Flip())
    same = (found == images).flatten(1).all(1)
    mirrored = (found == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 437 <= int(mirrored.sum()) <= 563  # four deviations of a binomial with mean 500


def test_a_flip_twice_with_the_same_draws_is_no_flip():
    images = noise()
    assert torch.equal(run(run(images, Flip()), Flip()), images)


def test_a_cutout_covers_a_square_with_the_fill_and_nothing_else():
    images = noise(400)
    found = run(images, Cutout(size=8))
    covered = (found == FILL.view(1, 3, 1, 1)).all(1)
    assert torch.equal(found.permute(0, 2, 3, 1)[~covered], images.permute(0, 2, 3, 1)[~covered])
    for square in covered:
        rows, columns = square.any(1), square.any(0)
        assert torch.equal(square, rows[:, None] & columns[None, :])
        for axis in (rows, columns):
            where = axis.nonzero()[:, 0]
            assert int(where[-1] - where[0]) + 1 == len(where)
            assert len(where) == 8 or where[0] == 0 or where[-1] == 31
            assert len(where) >= 4


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_centre_of_a_cutout_is_every_pixel_alike(size):
    """A square whose centre is at pixel c covers c - size // 2 to c - size // 2 + size - 1."""
    found = run(torch.ones(4000, 1, 5, 5), Cutout(size=size))
    seen = (found[:, 0] != 1.0).any(2).float().mean(0)
    covering = [
        sum(0 <= row - (centre - size // 2) < size for centre in range(5)) / 5 for row in range(5)
    ]
    deviation = 4 * (0.25 / 4000) ** 0.5  # four deviations of a mean of 4,000 yes or no
    torch.testing.assert_close(seen, torch.tensor(covering), atol=deviation, rtol=0)


def boxes(count=4000, least_area=0.08, narrowest=0.75, height=32, width=32):
    settings = ResizedCrop(least_area=least_area, narrowest=narrowest)
    drawn = module._boxes(torch.empty(count, 3, height, width), settings, seeded())
    return [each.long() for each in drawn]


@pytest.mark.parametrize("height, width", [(32, 32), (20, 40)])
def test_boxes_lie_in_the_image(height, width):
    top, left, tall, wide = boxes(height=height, width=width)
    assert tall.min() >= 1 and wide.min() >= 1
    assert top.min() == 0 and (top + tall).max() == height
    assert left.min() == 0 and (left + wide).max() == width


def test_a_box_lies_at_every_place_alike():
    top, left, tall, wide = boxes(height=8, width=8, count=8000)
    for start, size in ((top, tall), (left, wide)):
        starts = start[size == 6].bincount(minlength=3)
        mean = starts.sum() / 3
        assert mean > 300
        assert (starts - mean).abs().max() <= 4 * mean**0.5  # over four binomial deviations


def test_boxes_have_the_areas_and_shapes_that_were_asked_for():
    _, _, tall, wide = boxes(least_area=0.25, narrowest=0.5, height=320, width=320)
    area, ratio = tall * wide / 320**2, wide / tall
    # sides are rounded to whole pixels: half a pixel of at least 113 on each side
    assert area.min() >= 0.25 * 0.99 and area.max() <= 1.0
    assert ratio.min() >= 0.5 * 0.99 and ratio.max() <= 2.0 * 1.01
    assert area.min() <= 0.27 and area.max() >= 0.95  # and 4,000 boxes fill these ranges
    assert ratio.min() <= 0.52 and ratio.max() >= 1.9


def test_a_box_that_never_fits_becomes_the_whole_image():
    """Area 1 of a 20x40 image is at least 28 high at a ratio of at most 1 / 0.999."""
    top, left, tall, wide = boxes(least_area=1.0, narrowest=0.999, height=20, width=40)
    assert (tall == 20).all() and (wide == 40).all()
    assert (top == 0).all() and (left == 0).all()


def test_the_whole_image_as_box_is_the_image():
    images = noise(8, 20, 40)
    found = run(images, ResizedCrop(least_area=1.0, narrowest=0.999))
    # sampling points are computed in float32: a few ulp of 40 pixels times a step of at most 1
    torch.testing.assert_close(found, images, atol=2e-5, rtol=0)


def test_a_resized_crop_is_the_bilinear_enlargement_of_its_box_alone():
    images = noise(50, 24, 32)
    settings = ResizedCrop(least_area=0.08, narrowest=0.75)
    found = augment(images, (settings,), FILL, seeded(5))
    drawn = [each.long().tolist() for each in module._boxes(images, settings, seeded(5))]
    for image, result, top, left, tall, wide in zip(images, found, *drawn, strict=True):
        box = image[None, :, top : top + tall, left : left + wide]
        expected = F.interpolate(box, size=(24, 32), mode="bilinear", align_corners=False)[0]
        # sampling points are computed in float32: a few ulp of 32 pixels times a step of at most 1
        torch.testing.assert_close(result, expected, atol=2e-5, rtol=0)


def test_channel_means_of_bytes_are_exact():
    pixels = torch.randint(0, 256, (1100, 3, 5, 7), dtype=torch.uint8, generator=seeded())
    expected = torch.tensor(
        [sum(pixels[:, c].flatten().tolist()) / (1100 * 35 * 255) for c in range(3)]
    )
    assert torch.equal(channel_means(pixels, 255), expected)


def test_channel_means_of_floats_and_of_bytes_agree():
    pixels = torch.randint(0, 17, (9, 2, 4, 4), dtype=torch.uint8, generator=seeded())
    assert torch.equal(channel_means(pixels.float() / 16, 1.0), channel_means(pixels, 16))


@pytest.mark.parametrize("step", [Cutout(size=9), Crop(padding=9)])
def test_a_step_larger_than_the_image_is_refused(step):
    with pytest.raises(InvalidSetting, match=f"{step.kind}' of 9 pixels is larger .* of 8x10; use"):
        run(noise(2, 8, 10), step)


def test_steps_are_read_by_kind():
    read = TypeAdapter(list[Augmentation]).validate_python
    steps = [{"kind": "crop", "padding": 4}, {"kind": "flip"}, {"kind": "cutout", "size": 8}]
    assert read(steps) == [Crop(padding=4), Flip(), Cutout(size=8)]


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "crop", "padding": 0},
        {"kind": "cutout", "size": -1},
        {"kind": "cutout"},
        {"kind": "flip", "chance": 0.5},
        {"kind": "resized_crop", "least_area": 0.0, "narrowest": 0.75},
        {"kind": "resized_crop", "least_area": 0.1, "narrowest": 1.5},
        {"kind": "rotate"},
    ],
)
def test_a_step_that_makes_no_sense_is_refused(step):
    with pytest.raises(ValidationError):
        TypeAdapter(Augmentation).validate_python(step)
