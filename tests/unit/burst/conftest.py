"""One suite for both implementations of the burst kernels, both ciphers, sealed and in the clear."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import pytest

from mlvpn.burst.api import Opener, Sealer
from mlvpn.crypto.aead import Cipher

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


@pytest.fixture(scope="session", params=["python", "c"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """Each implementation in turn."""
    return load(request.param)


@pytest.fixture(params=[(cipher, clear) for cipher in Cipher for clear in (False, True)], ids=str)
def pair(request: pytest.FixtureRequest, kernels: ModuleType) -> Pair:
    """A sealer and an opener that belong together."""
    cipher, cleartext = request.param
    return Pair(kernels.Sealer(cipher, KEY, INDEX, cleartext), kernels.Opener(cipher, KEY, INDEX, cleartext))
