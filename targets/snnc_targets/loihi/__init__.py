"""Loihi: generated Lava programs, and what the chips would take of a program."""
