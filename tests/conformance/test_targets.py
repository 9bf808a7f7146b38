"""Every target of ours keeps the contract: generated programs run exactly as specified."""

import os

import pytest
from snnc.errors import MissingDependency
from snnc.testing.conformance import TargetConformance
from snnc_targets.loihi import TARGET as LOIHI
from snnc_targets.loihi import interpreter
from snnc_targets.loihi.interpreter import Places
from snnc_targets.reference import TARGET as REFERENCE


class TestReference(TargetConformance):
    target = REFERENCE


@pytest.mark.lava
@pytest.mark.slow
class TestLoihi(TargetConformance):
    target = LOIHI
    examples = 60

    @pytest.fixture(autouse=True)
    def lava(self):
        try:
            interpreter.find(Places.here())
        except MissingDependency as missing:
            if os.environ.get("SNNC_REQUIRE_LAVA") == "1":
                raise
            pytest.skip(str(missing).splitlines()[0])
