"""MLVPN in Python: one encrypted tunnel out of several Internet links."""

from mlvpn import compiled as compiled  # first of all: it decides which code of the rest is loaded

__version__ = "0.1.0"
