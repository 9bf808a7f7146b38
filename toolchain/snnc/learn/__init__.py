"""From an untrained ReLU network to a robust, sparse, spiking one.

    train      a dense network against an adversary       train.py, objectives/
    prune      the smallest weights go, the rest adapt    prune/
    convert    neurons, thresholds, batch statistics      spiking.py, balance.py, adapt.py
    finetune   the spiking network against an adversary   finetune.py

`recipes.py` reads what to do, `run.py` does it in a directory and can go on after a stop.
"""
