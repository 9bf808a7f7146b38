# scripts that import their neighbours or read their arguments: nothing to collect doctests from
collect_ignore = ["fast_simulator.py", "simulators_lava_run.py"]
