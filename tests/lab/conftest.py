"""A tunnel behind address translation, for modules whose lab has a link "a"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from relay import Relay

from mlvpn.lab.daemons import FIRST_PORT, Tunnel
from mlvpn.lab.topology import Lab

RELAY_PORT = 6000


@pytest.fixture(scope="module")
def relay(lab: Lab) -> Iterator[Relay]:
    with Relay(lab.server, lab.address("server", "a"), RELAY_PORT, FIRST_PORT) as relay:
        yield relay


@pytest.fixture(scope="module")
def tunnel(lab: Lab, relay: Relay) -> Iterator[Tunnel]:
    """A tunnel over one link, through the relay."""
    with Tunnel(lab, links=["a"], link_settings={"a": {"remoteport": RELAY_PORT}}) as tunnel:
        yield tunnel
