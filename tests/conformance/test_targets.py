"""Every target of ours keeps the contract: generated programs run exactly as specified."""

import pytest
from snnc.testing.conformance import TargetConformance
from snnc_targets.loihi import TARGET as LOIHI
from snnc_targets.reference import TARGET as REFERENCE


class TestReference(TargetConformance):
    target = REFERENCE


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.usefixtures("lava")
class TestLoihi(TargetConformance):
    target = LOIHI
    examples = 60
