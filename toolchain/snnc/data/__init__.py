"""Labelled images for training and measuring: numpy arrays, no network, nothing read at import.

>>> from snnc import data
>>> digits = data.load("digits")
>>> digits.test.take(20).images.shape
(20, 1, 8, 8)
"""

from snnc.data.dataset import Dataset, Split
from snnc.data.registry import load, names

__all__ = ["Dataset", "Split", "load", "names"]
