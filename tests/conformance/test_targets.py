"""Every target of ours keeps the contract: generated programs run exactly as specified."""

from itertools import count, islice

import numpy as np
import pytest
import snnc_targets.reference
from snnc.errors import InvalidSetting
from snnc.semantics.network import specified
from snnc.testing.conformance import TargetConformance, agree, run_on, saturating
from snnc.testing.programs import generate
from snnc_targets.loihi.target import LOIHI2
from snnc_targets.loihi.target import TARGET as LOIHI
from snnc_targets.reference import TARGET as REFERENCE


class TestReference(TargetConformance):
    target = REFERENCE

    @pytest.mark.parametrize("keep", [True, False])
    def test_batches_change_no_result_and_progress_reaches_the_end(
        self, tmp_path, monkeypatch, keep
    ):
        program, codes = saturating()
        codes = np.concatenate([codes, codes, codes[:1]])
        whole = REFERENCE.execute(program, tmp_path, codes, raster=keep)
        monkeypatch.setattr(snnc_targets.reference, "batch_size", lambda program: 2)
        seen = []
        parts = REFERENCE.execute(
            program, tmp_path, codes, raster=keep, progress=lambda *done: seen.append(done)
        )
        assert seen == [(2, 5), (4, 5), (5, 5)]
        np.testing.assert_array_equal(parts.logits, whole.logits)
        np.testing.assert_array_equal(parts.predictions, whole.predictions)
        for got, want in zip(parts.layers, whole.layers, strict=True):
            np.testing.assert_array_equal(got.spikes, want.spikes)
            np.testing.assert_array_equal(got.updated, want.updated)
            np.testing.assert_array_equal(got.raster, want.raster)
            assert (got.raster is None) == (not keep)
        for got, want in zip(parts.synapses, whole.synapses, strict=True):
            np.testing.assert_array_equal(got.events, want.events)

    def test_no_sample_is_refused(self, tmp_path):
        program, codes = saturating()
        with pytest.raises(InvalidSetting, match="there is no sample to run"):
            REFERENCE.execute(program, tmp_path, codes[:0], raster=False)


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
@pytest.mark.slow
class TestLoihi(TargetConformance):
    target = LOIHI
    examples = 60


def accepted(target, first, programs, **kinds):
    """Return generated programs that a target accepts, from a seed on, with codes."""
    drawn = (generate(seed, **kinds) for seed in count(first))
    return list(islice((run for run in drawn if not target.issues(run[0])), programs))


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "seed"),
    [
        (LOIHI.configured({"convolutions": "sparse"}), 7000),
        (LOIHI.configured({"image": "graded"}), 7100),
        (LOIHI.configured({"image": "bias"}), 7200),
    ],
)
def test_lava_runs_generated_programs_as_specified_whatever_is_chosen(target, seed):
    """A few of what test_loihi_generated.py runs in one process, here on Lava's runtime."""
    for program, codes in accepted(target, seed, 8):
        agree(run_on(target, program, codes), specified(program, codes))


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_the_chips_target_executes_in_the_simulation():
    program, codes = accepted(LOIHI2, 7300, 1, steps=(4, 4), delays=(0,))[0]
    agree(run_on(LOIHI2, program, codes), specified(program, codes))
