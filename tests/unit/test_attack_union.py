"""A sample counts as broken when either attacker of the integers broke it."""

import torch
from snnc.attack.deployed import DeployedExamples
from snnc.attack.steps import Examples


def test_one_of_the_two_attackers_is_enough():
    adaptive = Examples(
        images=torch.zeros(4, 1),
        labels=torch.tensor([0, 0, 0, 0]),
        predictions=torch.tensor([0, 1, 1, 0]),
        losses=torch.zeros(4),
    )
    found = DeployedExamples(
        clean=torch.tensor([False] * 4),
        transferred=torch.tensor([True, False, True, False]),
        adaptive=adaptive,
        agreement=1.0,
    )
    assert found.broken.tolist() == [True, True, True, False]
