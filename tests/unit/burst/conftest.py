"""One suite for both implementations of the burst kernels, both ciphers, sealed and in the clear."""

from __future__ import annotations

from types import ModuleType

import pytest
from burst_session import INDEX, KEY, Pair, load

from mlvpn.crypto.aead import Cipher


@pytest.fixture(scope="session", params=["python", "c"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """Each implementation in turn."""
    return load(request.param)


@pytest.fixture(params=[(cipher, clear) for cipher in Cipher for clear in (False, True)], ids=str)
def pair(request: pytest.FixtureRequest, kernels: ModuleType) -> Pair:
    """A sealer and an opener that belong together."""
    cipher, cleartext = request.param
    return Pair(kernels.Sealer(cipher, KEY, INDEX, cleartext), kernels.Opener(cipher, KEY, INDEX, cleartext))
