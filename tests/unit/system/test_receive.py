"""The reader of sockets in C joins datagrams as the one in Python does."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.system.join import JOIN_WITHIN_NS, STRETCH_WITHIN_NS, join_neighbours
from mlvpn.system.receive import KERNEL, MESSAGES
from mlvpn.wire.header import STAMP_AT
from records import values

MESSAGE_BYTES = 65_536

pytestmark = pytest.mark.skipif(KERNEL is None, reason="the reader in C is not built: receive_build")


class Message(NamedTuple):
    """What one ``recvmmsg`` entry has brought."""

    data: bytes
    datagram_bytes: int
    source: str
    arrival_ns: int


def message(first: int, size: int, count: int, short: int, source: str, arrival_ns: int, left_us: int = 0) -> Message:
    """Return ``count`` datagrams of ``size`` bytes and perhaps a shorter one."""
    bytes_in_all = size * count + min(short, size - 1)
    data = (bytes([first]) + bytes(STAMP_AT - 1) + left_us.to_bytes(4, "big") + bytes(bytes_in_all))[:bytes_in_all]
    return Message(data, size if len(data) > size else len(data), source, arrival_ns)


def joined_in_c(messages: list[Message]) -> list[ReceivedTrain]:
    ffi, lib = KERNEL.ffi, KERNEL.lib
    arena = ffi.new("uint8_t[]", MESSAGES * MESSAGE_BYTES)
    trains = ffi.new("struct received_train[]", MESSAGES)
    for at, one in enumerate(messages):
        ffi.buffer(arena)[at * MESSAGE_BYTES : at * MESSAGE_BYTES + len(one.data)] = one.data
        trains[at].start, trains[at].bytes, trains[at].datagram_bytes = (
            at * MESSAGE_BYTES, len(one.data), one.datagram_bytes,
        )  # fmt: skip
        trains[at].arrival_ns = one.arrival_ns
        trains[at].source = struct.pack("=H26s", 2, one.source.encode())
    count = lib.receive_join(arena, trains, len(messages))
    return [
        ReceivedTrain(
            "dsl",
            (ffi.buffer(trains[at].source)[2:3].decode(), 0),
            ffi.buffer(arena)[trains[at].start : trains[at].start + trains[at].bytes],
            trains[at].datagram_bytes,
            trains[at].arrival_ns,
            trains[at].stretch_ns,
        )
        for at in range(count)
    ]


def joined_in_python(messages: list[Message]) -> list[ReceivedTrain]:
    return join_neighbours(
        [ReceivedTrain("dsl", (one.source, 0), one.data, one.datagram_bytes, one.arrival_ns) for one in messages]
    )


_messages = st.lists(
    st.builds(
        message,
        st.sampled_from([1, 4]),
        st.sampled_from([5, 6, 16, 30_000]),
        st.integers(1, 2),
        st.integers(0, 3),
        st.sampled_from("AB"),
        st.one_of(st.integers(1, 2 * JOIN_WITHIN_NS), st.integers(1, 2 * STRETCH_WITHIN_NS)),
        st.integers(0, 1),
    ),
    max_size=12,
)


@given(_messages)
def test_the_twins_join_alike(messages: list[Message]) -> None:
    assert values(joined_in_c(messages)) == values(joined_in_python(messages))


def test_as_many_as_one_call_brings_are_one_train() -> None:
    messages = [message(4, 1400, 1, 0, "A", 1)] * 46
    [train] = joined_in_c(messages)
    assert (len(train.data), train.datagram_bytes) == (46 * 1400, 1400)
    assert values(joined_in_c([*messages, messages[0]])) == values(joined_in_python([*messages, messages[0]]))


def test_an_empty_message_leaves_no_trace() -> None:
    empty = Message(b"", 0, "A", 1)
    one = message(4, 9, 1, 0, "A", 1)
    assert values(joined_in_c([empty, one, empty, one, empty])) == values(joined_in_python([one, one]))
