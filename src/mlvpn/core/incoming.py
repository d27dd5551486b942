"""From bytes on a socket to what is authentic in them, or to a counter.

    train --> session by its first index --> opened --> all authentic: an arrival
                                                   --> not all: perhaps of several senders; each datagram for itself

Owns the checks that come before anything in a datagram is believed. Does not own keys (`sessions`), handshakes, which
prove themselves (`handshake`), or what an arrival causes (`tunnel`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mlvpn.burst import Opened
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.sessions import Sessions
from mlvpn.wire.header import OVERHEAD_BYTES, DatagramType, is_uniform, session_index

_DATA: Final = int(DatagramType.DATA)
_DATA_CLEAR: Final = int(DatagramType.DATA_CLEAR)
_HANDSHAKES: Final = (int(DatagramType.HANDSHAKE_INIT), int(DatagramType.HANDSHAKE_RESPONSE), int(DatagramType.COOKIE))
"""As plain numbers: an enum's member costs a look-up per use."""


class Arrival:
    """What is authentic of one train, or a handshake's datagram."""

    __slots__ = ("index", "opened", "train")

    def __init__(self, train: ReceivedTrain, index: int = 0, opened: Sequence[Opened] = ()) -> None:
        self.train = train
        self.index = index
        """Of its session."""
        self.opened = opened
        """Empty: a handshake's datagram."""


class Incoming:
    """The checks that every datagram passes."""

    def __init__(self, sessions: Sessions, counters: TunnelCounters) -> None:
        self._sessions = sessions
        self._counters = counters

    def open_train(self, train: ReceivedTrain) -> Iterable[Arrival]:
        """Return what has come, in order: what is behind a handshake's datagram may need its outcome. HOT PATH."""
        return self._open_sealed(train) if _is_sealed(train) else self._open_singly(train)

    def _open_sealed(self, train: ReceivedTrain) -> Iterable[Arrival]:
        """Open a train of the session that its first datagram names.

        Only if not all of it is authentic may there be somebody else's among them, which must not share their fate.
        """
        index, count = session_index(train.data), -(-len(train.data) // max(train.datagram_bytes, 1))
        opener = self._sessions.opener(index)
        opened, failed = ([], count) if opener is None else opener.open_train(train.data, train.datagram_bytes)
        if failed and count > 1 and not is_uniform(train.data, train.datagram_bytes):
            return self._open_singly(train)
        if opener is not None:
            self._counters.unauthentic_datagrams += failed
        elif self._sessions.current is None:
            self._counters.no_session_datagrams += failed
        else:
            self._counters.unknown_index_datagrams += failed
        return [Arrival(train, index, opened)] if opened else []

    def _open_singly(self, train: ReceivedTrain) -> Iterator[Arrival]:
        """Take datagrams each for itself: what is no data, and what may be of several senders."""
        if not train.data:
            self._counters.unknown_type_datagrams += 1
            return
        for single in train.singles():
            kind = single.data[0]
            if _is_sealed(single):
                yield from self._open_sealed(single)
            elif kind in _HANDSHAKES:
                yield Arrival(single)
            elif kind in (_DATA, _DATA_CLEAR):
                self._counters.unauthentic_datagrams += 1
            else:
                self._counters.unknown_type_datagrams += 1


def _is_sealed(train: ReceivedTrain) -> bool:
    """Say whether the first datagram looks like one of a session."""
    data = train.data
    return len(data) >= OVERHEAD_BYTES and (data[0] == _DATA or data[0] == _DATA_CLEAR)
