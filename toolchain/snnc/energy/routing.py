"""What a target that lays a program out on a chip's cores offers beside `Target`: hops.

Commands ask `isinstance(target, KnowsRouting)`. A price for hops needs to know how far spikes
travel; without a target that knows it, they stay unknown and a sum that needs them is partial.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from snnc.energy.count import Routing
from snnc.errors import InvalidSetting
from snnc.ir.program import Program
from snnc.simulate.trace import Trace


class KnowsRouting(ABC):
    """A target that places every neuron of a program on a core."""

    @abstractmethod
    def routing(self, program: Program, spikes: Mapping[str, npt.NDArray[np.float64]]) -> Routing:
        """Return the hops of one inference.

        `spikes` maps each layer to how often its neurons spike in one sample, of the layer's
        shape: see `spikes_of`.
        """


def spikes_of(trace: Trace) -> dict[str, npt.NDArray[np.float64]]:
    """Return how often each neuron spikes in one sample, of each layer's shape.

    Raises:
        InvalidSetting: the run kept no raster.
    """
    found = {}
    for layer in trace.layers:
        if layer.raster is None:
            raise InvalidSetting(
                f"{layer.name}: the run kept no raster, so nobody knows which neurons spiked; "
                "run it with raster=True"
            )
        found[layer.name] = layer.raster.sum(axis=(0, 1)) / trace.samples
    return found
