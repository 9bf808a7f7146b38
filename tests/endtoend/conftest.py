"""One small trained run, shared by the tests of the command line; networks that spike untrained."""

import pytest
import torch
from snnc.cli import main
from snnc.ir.graph import Granularity, Reset
from snnc.learn.spiking import to_spiking
from snnc.learn.surrogates import TRIANGLE

TINY = (
    "model.arguments.channels=[6, 8]",
    "model.arguments.pool_after=[1, 2]",
    "train.epochs=2",
    "train.validate_every=1",
    "prune.finetune.epochs=1",
    "prune.finetune.validate_every=1",
    "prune.sparsity=0.5",
    "convert.steps=3",
    "convert.balance.steps=2",
    "convert.balance.batches=1",
    "finetune.epochs=1",
    "finetune.validate_every=1",
)


@pytest.fixture(scope="session")
def tiny():
    """Return the recipe overrides of a tiny network, as arguments."""
    return [word for override in TINY for word in ("--set", override)]


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory, tiny):
    """Return a finished training run of a tiny network."""
    directory = tmp_path_factory.mktemp("run") / "digits"
    assert main(["train", "digits", "-o", str(directory), *tiny]) == 0
    return directory


@pytest.fixture(scope="session")
def build(run_directory, tmp_path_factory):
    """Return a reference build of the tiny network."""
    directory = tmp_path_factory.mktemp("build") / "reference"
    model = str(run_directory / "model.pt")
    assert main(["compile", model, "--target", "reference", "-o", str(directory)]) == 0
    return directory


@pytest.fixture(scope="session")
def lively():
    """Return what makes a network for the digits spike: thresholds of 0.3, T = 8."""

    def convert(network):
        converted = to_spiking(
            network,
            input_shape=(1, 8, 8),
            steps=8,
            reset=Reset.ZERO,
            keep=1.0,
            granularity=Granularity.LAYER,
            surrogate=TRIANGLE,
        ).eval()
        with torch.no_grad():
            for fire in converted.fires.values():
                fire.threshold.fill_(0.3)
        return converted

    return convert
