"""What a target that stores synapses or takes the image in its own way offers beside `Target`.

Prices of a synaptic event depend on how synapses are stored, and a chip that multiplies the
image at every step does work that a host does once. Commands ask `isinstance(target, Lowers)`;
without it, synapses are counted as the program stores them and profiles say how often the
image is multiplied.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from snnc.energy.count import Encoding
from snnc.ir.program import Program


class Lowers(ABC):
    """A target that knows what its synapses became."""

    @property
    @abstractmethod
    def image_every_step(self) -> bool:
        """Whether the image is multiplied with weights at every step, as the program says."""

    @abstractmethod
    def encodings(self, program: Program) -> Mapping[tuple[str, str], Encoding]:
        """Map (population, bundle) to how it is stored, for every bundle of the program."""
