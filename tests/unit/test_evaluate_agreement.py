from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from snnc.errors import InvalidSetting
from snnc.evaluate.agreement import Difference, agreement
from snnc.simulate.trace import LayerTrace, Trace


def a_trace(*rasters, predictions=(0, 1), raster=True) -> Trace:
    counts = np.zeros((2, 3), dtype=np.int64)
    predictions = np.array(predictions)
    return Trace(
        predictions=predictions,
        logits=np.eye(2, dtype=np.int64)[predictions],
        layers=tuple(
            LayerTrace(
                name=f"conv{i + 1}",
                neurons=4,
                spikes=counts,
                updated=counts,
                raster=r if raster else None,
            )
            for i, r in enumerate(rasters)
        ),
        synapses=(),
        steps=3,
    )


def silent() -> np.ndarray:
    return np.zeros((2, 3, 1, 2, 2), dtype=bool)  # samples, steps, *shape


def test_a_run_agrees_with_itself():
    trace = a_trace(silent(), ~silent())
    found = agreement(trace, trace)
    assert found.exact
    assert found.first is None
    assert found.to_json() == {
        "samples": 2,
        "layers": {"conv1": 1.0, "conv2": 1.0},
        "predictions": 1.0,
    }


def test_one_spike_that_differs_is_counted_and_named():
    other = silent()
    other[1, 2, 0, 1, 0] = True
    found = agreement(a_trace(silent(), silent()), a_trace(silent(), other))
    assert found.layers == {"conv1": 1.0, "conv2": 23 / 24}
    assert found.first == Difference(layer="conv2", sample=1, step=2, neuron=2, expected=False)
    assert not found.exact
    assert str(found.first) == (
        "conv2: sample 1, step 2, neuron 2: the reference is silent, the other spikes"
    )


def test_the_first_difference_is_in_the_earliest_layer_then_sample_then_step():
    early, late = silent(), silent()
    early[1, 0, 0, 0, 0] = True
    early[0, 2, 0, 1, 1] = early[0, 1, 0, 0, 1] = True
    late[0, 0, 0, 0, 0] = True
    found = agreement(a_trace(early, late), a_trace(silent(), silent()))
    assert found.first == Difference(layer="conv1", sample=0, step=1, neuron=1, expected=True)
    assert found.layers == {"conv1": 21 / 24, "conv2": 23 / 24}


def test_predictions_may_differ_where_spikes_do_not():
    found = agreement(a_trace(silent()), a_trace(silent(), predictions=(0, 0)))
    assert (found.predictions, found.logits, found.first) == (0.5, 0.5, None)
    assert not found.exact


def test_runs_that_do_not_compare_are_refused():
    good = a_trace(silent())
    with pytest.raises(InvalidSetting, match="conv1: the run kept no raster"):
        agreement(good, a_trace(silent(), raster=False))
    with pytest.raises(InvalidSetting, match="layers .* do not compare"):
        agreement(good, a_trace(silent(), silent()))
    with pytest.raises(InvalidSetting, match="same samples"):
        agreement(good, replace(good, logits=good.logits[:1], predictions=good.predictions[:1]))
    with pytest.raises(InvalidSetting, match="differ in shape"):
        agreement(good, a_trace(silent()[:, :2]))
