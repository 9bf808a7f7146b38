"""Tools for testing targets and simulators, ours and yours."""
