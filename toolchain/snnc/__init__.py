"""Train, convert, compile, attack and price robust sparse spiking networks."""

__version__ = "0.1.0"
