"""Joins datagrams that came one by one to trains, where the kernel has not.

Owns what UDP_GRO does, for network cards and kernels that do not do it: a train is opened with one call, which costs a
third of opening its datagrams one by one. Does not own reading (`system/receive.py`), nor the same thing done in C
(`system/receive.c`).
"""

from __future__ import annotations

from typing import Final

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.wire.header import HEADER_BYTES, stamp

JOIN_WITHIN_NS: Final = 500_000
"""Datagrams further apart keep their own time of arrival, for delays are measured by it; but not those that have left
at one moment: what a slow link has stretched is known by when its first and its last came."""
STRETCH_WITHIN_NS: Final = 100_000_000
"""And not even those, from here on: time stamps are not proven yet, and a clock may have been set in between."""
TRAIN_BYTES: Final = 65_535
"""As long as a train of the kernel's can be; whoever opens trains may rely on it."""


def join_neighbours(trains: list[ReceivedTrain]) -> list[ReceivedTrain]:
    """Join trains from one source that left or came together: all of one size, only the last may be shorter.

    What UDP_GRO does in the kernel, for network cards and kernels that do not: a train is opened with one call. The
    joined train's arrival is that of its first datagram, to which its time stamp belongs. In MLVPN 2.x's protocol these
    bytes are the upper half of a number: all that one read brings is joined, and its core takes the last one's arrival.
    """
    joined: list[ReceivedTrain] = []
    at, end = 0, len(trains)
    while at < end:
        first, stop = trains[at], at + 1
        size = first.datagram_bytes
        left = stamp(first.data) if size >= HEADER_BYTES else None
        whole, room = not len(first.data) % size, TRAIN_BYTES - len(first.data)
        while whole and stop < end:
            train = trains[stop]
            if train.source != first.source or train.data[0] != first.data[0]:
                break
            late_ns = train.arrival_ns - first.arrival_ns
            if late_ns > JOIN_WITHIN_NS and (late_ns > STRETCH_WITHIN_NS or stamp(train.data) != left):
                break
            if train.datagram_bytes != size and not len(train.data) <= train.datagram_bytes < size:
                break
            room -= len(train.data)
            if room < 0:
                break
            whole = not len(train.data) % size
            stop += 1
        if stop > at + 1:
            stretch_ns = trains[stop - 1].arrival_ns - first.arrival_ns
            data = b"".join([train.data for train in trains[at:stop]])
            stretch_ns = stretch_ns if stretch_ns > JOIN_WITHIN_NS else 0
            first = ReceivedTrain(first.link, first.source, data, size, first.arrival_ns, stretch_ns)
        joined.append(first)
        at = stop
    return joined
