"""Choosing integers by what they do: scales found on images, and the account of it.

`snnc.passes.quantize` turns a graph into integers at given scales and needs no data. Here
the scales are searched on calibration images, by running the integers.
"""
