"""Run programs (and float graphs) on the host."""
