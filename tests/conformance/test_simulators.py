"""Every host simulator runs generated programs exactly as the specification says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from snnc.semantics.network import specified
from snnc.simulate import fast, reference
from snnc.testing.conformance import agree, saturating
from snnc.testing.programs import runs

SIMULATORS = {"numpy": reference.run, "fast": fast.run}


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_runs_what_the_specification_says(name):
    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(runs())
    def agrees(case):
        program, codes = case
        agree(SIMULATORS[name](program, codes, raster=True), specified(program, codes))

    agrees()


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_saturates_where_the_specification_does(name):
    program, codes = saturating()
    want = specified(program, codes)
    agree(SIMULATORS[name](program, codes, raster=True), want)
    fired = {name: np.flatnonzero(raster[0]) + 1 for name, raster in want.rasters.items()}
    assert 13 in fired["floor"]  # without a floor: not before step 14
    assert 14 not in fired["ceiling"]  # without a ceiling: at step 14 too


def test_the_two_simulators_count_the_same_updates():
    @settings(max_examples=50, deadline=None, derandomize=True)
    @given(runs())
    def agrees(case):
        program, codes = case
        for slow, quick in zip(
            reference.run(program, codes, raster=False).layers,
            fast.run(program, codes, raster=False).layers,
            strict=True,
        ):
            np.testing.assert_array_equal(slow.updated, quick.updated)
            assert slow.raster is None and quick.raster is None

    agrees()
