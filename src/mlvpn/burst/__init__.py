"""Seal a run, open a train: the per-datagram work, in C where it was built, in Python everywhere.

Owns the choice of the implementation, made once at import: a worker in its chroot can load nothing any more.
``MLVPN_KERNELS`` is ``auto`` (the default: C if it loads), ``c`` or ``python``; what is forced and missing is an
ImportError, never another implementation. ``IMPLEMENTATION`` is the one that runs: ``c`` or ``python``.
"""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from mlvpn.burst.api import Opened

__all__ = ["IMPLEMENTATION", "Opened", "Opener", "Sealer"]


def _load(wanted: str) -> tuple[str, ModuleType]:
    if wanted not in ("auto", "c", "python"):
        raise ImportError(f"MLVPN_KERNELS={wanted!r}: say auto, c or python")
    if wanted != "python":
        try:
            return "c", import_module("mlvpn.burst.c")
        except ImportError as error:
            if wanted == "c":
                cure = "build them with `MLVPN_KERNELS=auto python -m mlvpn.burst.build`"
                raise ImportError(f"MLVPN_KERNELS=c, but the C kernels do not load ({error}); {cure}") from error
    return "python", import_module("mlvpn.burst.python")


IMPLEMENTATION, _module = _load(os.environ.get("MLVPN_KERNELS", "auto"))

if TYPE_CHECKING:
    from mlvpn.burst.python import Opener, Sealer
else:
    Opener, Sealer = _module.Opener, _module.Sealer
