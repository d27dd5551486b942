"""A session's two ends as the tests of the burst kernels set them up, in either implementation."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import pytest

from mlvpn.burst.api import Opener, Sealer

KEY = bytes(range(32))
INDEX = 0xA1B2C3D4


class Pair(NamedTuple):
    """The two ends of one session."""

    sealer: Sealer
    opener: Opener


def load(implementation: str) -> ModuleType:
    """Import an implementation; skip where the C one was not built, unless it was asked for."""
    if implementation == "c" and os.environ.get("MLVPN_KERNELS") != "c":
        pytest.importorskip("mlvpn.burst.c", exc_type=ImportError)
    return import_module(f"mlvpn.burst.{implementation}")
