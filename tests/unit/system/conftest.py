"""Sockets are read in two ways; a test that reads them is run with both."""

from __future__ import annotations

import pytest

from mlvpn.system import receive, udp


@pytest.fixture(params=["c", "python"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read link sockets in C, then in Python."""
    if request.param == "c" and receive.KERNEL is None:
        pytest.skip("the reader in C is not built: receive_build")
    monkeypatch.setattr(udp, "TrainReader", receive.CReader if request.param == "c" else receive.PythonReader)
