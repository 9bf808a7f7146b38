"""Measure what a network, or its deployed integers, does: shares, intervals, agreement, masking."""
