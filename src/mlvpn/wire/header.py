"""The clear header of every sealed datagram of the native protocol.

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | type | 4 DATA: the body is sealed; 5 DATA_CLEAR: the body is authenticated but readable (`cleartext_data = 1`) |
| 1 | 1 | link | number of the link, given by the client: its place in the client's configuration |
| 2 | 6 | lseq | counts the datagrams of this link and direction; goes on over a rekey, restarts with a new association |
| 8 | 4 | index | the receiver's session index; a session is found by it, never by address |
| 12 | 4 | ts | the sender's monotonic clock in microseconds, modulo 2^32 |

The first twelve bytes are the AEAD nonce: a key belongs to one index and one direction, so link and lseq make it
unique. All sixteen bytes are authenticated. Types 1 to 3 are the handshake (`wire/handshake.py`) and have no such header.

Owns the layout and the numbers of the types. Does not own sealing (`burst`) or what the body says (`wire/frame.py`).
All integers are big-endian.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final


class DatagramType(IntEnum):
    """First byte of every datagram of the native protocol."""

    HANDSHAKE_INIT = 1
    HANDSHAKE_RESPONSE = 2
    COOKIE = 3
    DATA = 4
    DATA_CLEAR = 5


HEADER_BYTES: Final = 16
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
"""What a datagram carries besides its body."""

LSEQ_LIMIT: Final = 1 << 48
TS_MODULUS: Final = 1 << 32

INDEX_AT: Final = 8
INDEX: Final = struct.Struct(">I")
STAMP_AT: Final = 12
_SHARED_AT: Final = (0, *range(INDEX_AT, INDEX_AT + INDEX.size))


def session_index(datagram: bytes) -> int:
    """Return the receiver index of a DATA or DATA_CLEAR datagram of at least HEADER_BYTES."""
    index: int = INDEX.unpack_from(datagram, INDEX_AT)[0]
    return index


def stamp(datagram: bytes) -> bytes:
    """Return the bytes of the time stamp of a DATA or DATA_CLEAR datagram of at least HEADER_BYTES."""
    return datagram[STAMP_AT:HEADER_BYTES]


def is_uniform(train: bytes, datagram_bytes: int) -> bool:
    """Say whether all datagrams of a train are of one type and one session: nobody's else may share their fate."""
    count = -(-len(train) // datagram_bytes)
    same = (train[at::datagram_bytes] == train[at : at + 1] * count for at in _SHARED_AT)
    return datagram_bytes >= HEADER_BYTES and all(same)


def ts_us(now_ns: int) -> int:
    """Return the header's time stamp for a monotonic time."""
    return now_ns // 1000 % TS_MODULUS


def signed_us(difference: int) -> int:
    """Fold a difference of two time stamps into -2^31 .. 2^31-1 microseconds."""
    return (difference + (1 << 31)) % TS_MODULUS - (1 << 31)
