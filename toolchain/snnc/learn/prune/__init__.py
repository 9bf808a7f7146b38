"""Which weights stay: masks as values, and the rules that choose them."""

from snnc.learn.prune.masks import Masks, apply_masks, nonzero_masks, prunable, sparsity

__all__ = ["Masks", "apply_masks", "nonzero_masks", "prunable", "sparsity"]
