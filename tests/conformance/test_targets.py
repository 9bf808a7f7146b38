"""Every target of ours keeps the contract: generated programs run exactly as specified."""

import numpy as np
import pytest
import snnc_targets.reference
from snnc.errors import InvalidSetting
from snnc.testing.conformance import TargetConformance, saturating
from snnc_targets.loihi import TARGET as LOIHI
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
