import pytest
import torch
from snnc import data
from snnc.errors import InvalidSetting
from snnc.frontend.tracing import trace
from snnc.learn.prune import prunable
from snnc_models.small import small_conv


def test_the_network_classifies_images_and_can_be_traced():
    network = small_conv(
        channels=[4, 6],
        pool_after=[2],
        in_channels=3,
        size=6,
        classes=5,
        mean=[0.0] * 3,
        std=[1.0] * 3,
    ).eval()
    images = torch.rand(2, 3, 6, 6)
    assert network(images).shape == (2, 5)
    assert torch.equal(trace(network)(images), network(images))
    assert list(prunable(network)) == ["conv1.weight", "conv2.weight", "readout.weight"]


def test_it_normalises_with_the_statistics_of_the_digits():
    images = torch.from_numpy(data.load("digits").train.images)
    normalised = small_conv().normalize(images)
    # the defaults are written with four digits
    assert normalised.mean().item() == pytest.approx(0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [{"channels": []}, {"pool_after": [0]}, {"pool_after": [4]}, {"size": 6}, {"size": 7}],
)
def test_impossible_shapes_are_refused(arguments):
    with pytest.raises(InvalidSetting, match="small_conv"):
        small_conv(**arguments)
