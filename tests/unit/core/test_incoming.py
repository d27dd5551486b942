"""What of a train is believed, and under which counter the rest goes."""

from __future__ import annotations

import pytest

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.incoming import Incoming
from mlvpn.core.sessions import Sessions
from mlvpn.wire.header import OVERHEAD_BYTES, DatagramType

SIZE = OVERHEAD_BYTES + 30


def arrive(data: bytes, datagram_bytes: int = SIZE) -> TunnelCounters:
    """Let a train arrive where nothing has been agreed; return what was counted."""
    counters = TunnelCounters()
    train = ReceivedTrain("a", ("10.0.0.2", 5080), data, datagram_bytes, 0)
    assert [arrival for arrival in Incoming(Sessions(), counters).open_train(train) if arrival.opened] == []
    return counters


def datagram(kind: int, size: int = SIZE) -> bytes:
    return bytes((kind,)) + bytes(size - 1)


@pytest.mark.parametrize("size", [0, SIZE])
def test_nothing_is_one_unknown_datagram(size: int) -> None:
    assert arrive(b"", size).unknown_type_datagrams == 1


def test_an_unknown_type_is_counted_for_each_datagram() -> None:
    assert arrive(3 * datagram(200)).unknown_type_datagrams == 3


def test_data_without_a_session_is_counted_for_each_datagram() -> None:
    assert arrive(3 * datagram(DatagramType.DATA)).no_session_datagrams == 3


def test_data_too_short_to_be_any() -> None:
    assert arrive(datagram(DatagramType.DATA, OVERHEAD_BYTES - 1)).unauthentic_datagrams == 1


def test_each_of_a_mixed_train_goes_its_own_way() -> None:
    train = datagram(DatagramType.DATA) + datagram(200) + datagram(DatagramType.HANDSHAKE_INIT) + datagram(201, 5)
    counters = TunnelCounters()
    incoming = Incoming(Sessions(), counters)
    (handshake,) = incoming.open_train(ReceivedTrain("a", ("10.0.0.2", 5080), train, SIZE, 0))
    assert handshake.train.data == datagram(DatagramType.HANDSHAKE_INIT)
    assert (counters.no_session_datagrams, counters.unknown_type_datagrams) == (1, 2)
