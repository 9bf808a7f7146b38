"""Which weights stay: masks as values, and the rules that choose them.

    magnitude.py    the largest weights, of each layer or of all (LWM)
    random.py       as many, by lot
    hydra.py        the largest learned scores of each layer
    harp.py         the same, and how many in each layer is learned too

`masks.py` has what a mask is, `scores.py` how scores are learned, `events.py` what a budget
of synaptic events counts; `choose.py` is the stage.
"""

from snnc.learn.prune.choose import Prune, check, choose
from snnc.learn.prune.harp import Harp
from snnc.learn.prune.hydra import Hydra
from snnc.learn.prune.magnitude import Magnitude
from snnc.learn.prune.masks import Masks, apply_masks, nonzero_masks, prunable, sparsity
from snnc.learn.prune.random import Random

__all__ = [
    "Harp",
    "Hydra",
    "Magnitude",
    "Masks",
    "Prune",
    "Random",
    "apply_masks",
    "check",
    "choose",
    "nonzero_masks",
    "prunable",
    "sparsity",
]
