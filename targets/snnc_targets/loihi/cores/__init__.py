"""A program cut into the cores of a Loihi: memory, placement, picture, chips as data."""
