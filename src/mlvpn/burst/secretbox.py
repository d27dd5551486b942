"""Seal and open whole trains of MLVPN 1: one call each, in C where it was built, in Python everywhere.

Owns the choice, made once at import by ``MLVPN_KERNELS`` as for the native kernels (``burst``); a kernel that was not
built is no error, even with ``MLVPN_KERNELS=c``: most people have no use for it. Does not own the format
(``wire/mlvpn1.py``) nor what a header means: a train that was opened is only authentic, not yet fresh.

Both implementations give the same bytes for the same input; the tests compare them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, Protocol

from mlvpn.errors import PeerError
from mlvpn.wire.mlvpn1 import (
    HEADER_BYTES,
    MAC_BYTES,
    NO_TIMESTAMP,
    VERSION,
    Header,
    PacketType,
    open_sealed,
    pack,
    seal,
)

OVERHEAD_BYTES: Final = HEADER_BYTES + MAC_BYTES


class TrainBox(Protocol):
    """What both implementations offer; an object belongs to one key and one thread."""

    def __init__(self, key: bytes) -> None:
        """Take the key of both directions."""

    def seal_train(
        self, packets: Sequence[bytes], flow_id: int, seq: int, data_seqs: Sequence[int], timestamp: int, reply: int
    ) -> bytes:
        """Return DATA datagrams with consecutive seq from ``seq`` on, end to end; only the first answers a timestamp.

        All packets are equally long, but the last may be shorter. HOT PATH.
        """

    def open_train(self, train: bytes, datagram_bytes: int) -> list[bytes | None]:
        """Return the body of each datagram, None where it is not authentic or its length field wrong. HOT PATH."""


class PythonTrainBox:
    """In Python, on PyNaCl."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal_train(
        self, packets: Sequence[bytes], flow_id: int, seq: int, data_seqs: Sequence[int], timestamp: int, reply: int
    ) -> bytes:
        """See TrainBox."""
        datagrams = []
        for packet, data_seq in zip(packets, data_seqs, strict=True):
            body = seal(packet, flow_id, seq, self._key)
            header = Header(len(body), VERSION, PacketType.DATA, True, timestamp, reply, flow_id, seq, data_seq)
            datagrams += [pack(header), body]
            seq, reply = seq + 1, NO_TIMESTAMP
        return b"".join(datagrams)

    def open_train(self, train: bytes, datagram_bytes: int) -> list[bytes | None]:
        """See TrainBox."""
        return [self._open(train[start : start + datagram_bytes]) for start in range(0, len(train), datagram_bytes)]

    def _open(self, datagram: bytes) -> bytes | None:
        if len(datagram) < OVERHEAD_BYTES or int.from_bytes(datagram[:2], "big") != len(datagram) - HEADER_BYTES:
            return None
        flow_id, seq = int.from_bytes(datagram[8:12], "big"), int.from_bytes(datagram[12:20], "big")
        try:
            return open_sealed(datagram[HEADER_BYTES:], flow_id, seq, self._key)
        except PeerError:
            return None


class CTrainBox:
    """In C, on libsodium."""

    def __init__(self, key: bytes) -> None:
        assert KERNEL is not None
        self._ffi, self._lib = KERNEL.ffi, KERNEL.lib
        self._key = self._ffi.from_buffer("uint8_t[]", key)

    def seal_train(
        self, packets: Sequence[bytes], flow_id: int, seq: int, data_seqs: Sequence[int], timestamp: int, reply: int
    ) -> bytes:
        """See TrainBox."""
        count, size, last = len(packets), len(packets[0]), len(packets[-1])
        assert all(len(packet) == size for packet in packets[:-1]) and last <= size, "a train's datagrams are alike"
        plain = b"".join(packets)
        out = bytearray(len(plain) + count * OVERHEAD_BYTES)
        sealed = self._ffi.from_buffer("uint8_t[]", out)
        failed = self._lib.secretbox_seal_train(
            sealed,
            plain,
            count,
            size,
            last,
            self._key,
            flow_id,
            seq,
            self._ffi.new("uint64_t[]", data_seqs),
            timestamp,
            reply,
        )
        assert not failed, "libsodium refused to seal"
        return bytes(out)

    def open_train(self, train: bytes, datagram_bytes: int) -> list[bytes | None]:
        """See TrainBox."""
        count = -(-len(train) // datagram_bytes)
        out, opened = bytearray(len(train)), bytearray(count)
        bodies, flags = self._ffi.from_buffer("uint8_t[]", out), self._ffi.from_buffer("uint8_t[]", opened)
        self._lib.secretbox_open_train(bodies, flags, train, len(train), datagram_bytes, self._key)
        view, end = memoryview(out), len(train) - OVERHEAD_BYTES
        body_bytes = datagram_bytes - OVERHEAD_BYTES
        return [
            view[start : min(start + body_bytes, end)].tobytes() if is_open else None
            for start, is_open in zip(range(0, len(train), datagram_bytes), opened, strict=True)
        ]


def _load() -> Any:
    if os.environ.get("MLVPN_KERNELS", "auto") == "python":
        return None
    try:
        kernel = import_module("mlvpn.burst._secretbox")
    except ImportError:
        return None
    return kernel if hasattr(kernel.lib, "segments_split") else None  # one that an older version built


KERNEL: Final = _load()
IMPLEMENTATION: Final = "python" if KERNEL is None else "c"


def make_box(key: bytes) -> TrainBox:
    """Return the better implementation for a key."""
    return PythonTrainBox(key) if KERNEL is None else CTrainBox(key)
