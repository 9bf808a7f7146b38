"""Every host simulator runs generated programs exactly as the specification says.

A program follows from its seed alone: `generate(seed, **kind)` repeats a failing one.
"""

import numpy as np
import pytest
from snnc import twin
from snnc.errors import InvalidSetting
from snnc.ir.graph import Reset
from snnc.ir.program import FORGET
from snnc.semantics.network import specified
from snnc.simulate import fast, reference
from snnc.testing.conformance import agree, saturating
from snnc.testing.programs import generate

SIMULATORS = {"numpy": reference.run, "fast": fast.run, "torch": twin.run}
BLOCK = 100
KINDS = {  # of program: how many blocks of seeds, and what `generate` is told
    "of every kind": (14, {}),
    "without leaks": (4, {"leaks": (0,), "current_decays": (FORGET,)}),
    "with delays": (2, {"delays": (0, 1, 2, 7), "steps": (3, 10)}),
    "with lasting currents": (2, {"current_decays": (0, 1, 512, 4095), "steps": (3, 10)}),
    "of soft resets": (2, {"resets": (Reset.SUBTRACT,), "leaks": (0, 1, 4095)}),
}
BLOCKS = [(kind, block) for kind, (blocks, _) in KINDS.items() for block in range(blocks)]


def cases(kind, block, **more):
    _, told = KINDS[kind]
    for seed in range(BLOCK * block, BLOCK * (block + 1)):
        yield seed, *generate(seed, **{**told, **more})


@pytest.mark.parametrize(("kind", "block"), BLOCKS)
def test_the_simulators_run_what_the_specification_says(kind, block):
    for seed, program, codes in cases(kind, block):
        want = specified(program, codes)
        for name, simulator in SIMULATORS.items():
            try:
                agree(simulator(program, codes, raster=True), want)
            except AssertionError as error:
                raise AssertionError(f"{name}, program {kind}, seed {seed}") from error


def test_the_programs_are_many():
    assert BLOCK * len(BLOCKS) >= 2000


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_saturates_where_the_specification_does(name):
    program, codes = saturating()
    want = specified(program, codes)
    agree(SIMULATORS[name](program, codes, raster=True), want)
    fired = {name: np.flatnonzero(raster[0]) + 1 for name, raster in want.rasters.items()}
    assert 13 in fired["floor"]  # without a floor: not before step 14
    assert 14 not in fired["ceiling"]  # without a ceiling: at step 14 too


@pytest.mark.parametrize("kind", KINDS)
def test_two_simulators_count_the_same_updates(kind):
    for seed, program, codes in cases(kind, 0):
        slow = reference.run(program, codes, raster=False)
        quick = fast.run(program, codes, raster=False)
        for one, other in zip(slow.layers, quick.layers, strict=True):
            np.testing.assert_array_equal(one.updated, other.updated, err_msg=f"seed {seed}")
            assert one.raster is None and other.raster is None


@pytest.mark.parametrize("name", SIMULATORS)
def test_a_simulator_refuses_codes_that_no_image_becomes(name):
    program, codes = generate(0)
    with pytest.raises(InvalidSetting, match=r"which no image in \[0, 1\] becomes"):
        SIMULATORS[name](program, codes + program.input.levels + 1, raster=False)


def test_a_prepared_program_refuses_codes_that_no_image_becomes():
    program, codes = generate(0)
    prepared = fast.prepare(program, len(codes))
    with pytest.raises(InvalidSetting, match=r"which no image in \[0, 1\] becomes"):
        prepared.run(codes + program.input.levels + 1, raster=False)
