"""MLVPN in Python: one encrypted tunnel out of several Internet links."""

__version__ = "0.1.0"
