"""Seal a run, open a train: the per-datagram work, in C where it was built, in Python everywhere.

Owns the choice of the implementation, made once at import (a worker in its chroot can load nothing any more).
``MLVPN_KERNELS`` = ``auto`` (default), ``c`` or ``python`` forces it; what is forced and missing is an ImportError.
``IMPLEMENTATION`` names what runs.
"""

from mlvpn.burst.api import Opened
from mlvpn.burst.python import Opener, Sealer

IMPLEMENTATION = "python"

__all__ = ["IMPLEMENTATION", "Opened", "Opener", "Sealer"]
