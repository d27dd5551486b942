"""The datagrams of MLVPN 2.x: `protocol = "mlvpn1"`.

One UDP datagram is a header of 28 bytes and a body. Integers are big-endian but for the bit field.

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 2 | length | bytes of body, with the 16 bytes of the MAC where it is sealed |
| 2 | 2 | flags | little-endian: bits 0-3 version, bits 4-9 type, bit 10 reorder, bits 11-15 zero |
| 4 | 2 | timestamp | sender's clock in ms modulo 65536, never 65535 |
| 6 | 2 | timestamp_reply | last timestamp received plus the ms it was held; 65535: none younger than a second |
| 8 | 4 | flow_id | random per link and start of the sender |
| 12 | 8 | seq | per link and direction, one more with each datagram of any type, from 0 |
| 20 | 8 | data_seq | over all links, one more with each DATA datagram, from 0; void in other types: 0 from MLVPN 2.x |

| type | name | body |
|---|---|---|
| 0 | AUTH | `AU` |
| 1 | AUTH_OK | `OK` |
| 2 | KEEPALIVE | empty |
| 3 | DATA | one IP packet, or one Ethernet frame in tap mode |
| 4 | DISCONNECT | empty |

The body is sealed by crypto_secretbox (XSalsa20-Poly1305, MAC first) with BLAKE2b-256(password) as the key and the
nonce LE64(seq) | LE32(flow_id) | 12 zero bytes. The header is not authenticated: whoever can change datagrams on their
way can change a type or a data_seq; what a body says is beyond doubt. With `cleartext_data = 1` the body of DATA is
bare. Version 0 (MLVPN 2.0 and 2.1) has the same layout, with reorder and data_seq void.

This daemon writes `TRAINS` as the data_seq of its control datagrams, where nobody looks: by that two of them know each
other, and need not send as carefully as to one that reads datagram by datagram (`core/mlvpn1/window.py`).

Owns the layout, the limits and the sealing. Does not own who sends what when (`core/mlvpn1`).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from mlvpn.errors import PeerError

VERSION: Final = 1
HEADER: Final = struct.Struct(">HBBHHIQQ")
"""The bit field is read as its two bytes, which is the same on machines of either byte order."""
HEADER_BYTES: Final = HEADER.size
MAC_BYTES: Final = 16
MAX_BODY_BYTES: Final = 1500
MAX_SEALED_PACKET_BYTES: Final = MAX_BODY_BYTES - HEADER_BYTES - MAC_BYTES
"""The sender counts header and MAC into the limit of 1500, so a peer's own sealed packets end at 1456."""

READS_TRAINS: Final = int.from_bytes(b"TRAINS")
"""data_seq of control datagrams from one that reads whole trains."""
NO_TIMESTAMP: Final = 65535
TIMESTAMP_MODULUS: Final = 65536
NONCE: Final = struct.Struct("<QI12x")

_REORDER_BIT: Final = 0x04
"""Bit 10 of the bit field, in its second byte."""


class PacketType(IntEnum):
    """What a datagram is for."""

    AUTH = 0
    AUTH_OK = 1
    KEEPALIVE = 2
    DATA = 3
    DISCONNECT = 4


_DATA_FLAGS: Final = PacketType.DATA << 4 | VERSION
"""First byte of the bit field of DATA."""

CONTROL_BODIES: Final = {
    PacketType.AUTH: b"AU",
    PacketType.AUTH_OK: b"OK",
    PacketType.KEEPALIVE: b"",
    PacketType.DISCONNECT: b"",
}
"""The only body that each type but DATA may have."""


class Header(NamedTuple):
    """The 28 bytes in front of a body."""

    length_bytes: int
    version: int
    type: int
    reorder: bool
    timestamp: int
    timestamp_reply: int
    flow_id: int
    seq: int
    data_seq: int


def password_key(password: bytes) -> bytes:
    """Derive the key of both directions from the configured password, as every MLVPN 2.x does: unsalted."""
    return hashlib.blake2b(password, digest_size=32).digest()


def timestamp(now_ns: int) -> int:
    """Return the header's clock for a monotonic time; 65535 is said as 0, for it means "none"."""
    return now_ns // 1_000_000 % TIMESTAMP_MODULUS % NO_TIMESTAMP


def pack(header: Header) -> bytes:
    """Build the 28 bytes of a header."""
    return HEADER.pack(
        header.length_bytes,
        header.type << 4 & 0xF0 | header.version,
        _REORDER_BIT * header.reorder | header.type >> 4,
        header.timestamp,
        header.timestamp_reply,
        header.flow_id,
        header.seq,
        header.data_seq,
    )


def unpack(data: bytes, start: int, end: int) -> Header:
    """Read the header of the datagram ``data[start:end]``; raise PeerError unless its length field fits. HOT PATH."""
    if end - start <= HEADER_BYTES:
        raise PeerError("a datagram without a body")
    length_bytes, low, high, *numbers = HEADER.unpack_from(data, start)
    if length_bytes != end - start - HEADER_BYTES or length_bytes > MAX_BODY_BYTES:
        raise PeerError("a datagram whose length field is wrong")
    return Header(length_bytes, low & 15, low >> 4 | (high & 3) << 4, bool(high & _REORDER_BIT), *numbers)


def unpack_run(data: bytes, datagram_bytes: int) -> tuple[Header, list[int]] | None:
    """Read a train of ordered DATA of one flow with consecutive seq: the first header and every data_seq, else None.

    The header has the last timestamp and the last answer of them all. Length fields are not looked at. HOT PATH.
    """
    headers = [HEADER.unpack_from(data, start) for start in range(0, len(data), datagram_bytes)]
    length_bytes, low, high, stamp, reply, flow_id, seq, first_data_seq = headers[0]
    if low != _DATA_FLAGS or high != _REORDER_BIT:
        return None
    data_seqs = []
    for expected, (_, low, high, stamp_here, reply_here, flow_here, seq_here, data_seq) in enumerate(headers, seq):
        if low != _DATA_FLAGS or high != _REORDER_BIT or flow_here != flow_id or seq_here != expected:
            return None
        stamp = stamp_here if stamp_here != NO_TIMESTAMP else stamp
        reply = reply_here if reply_here != NO_TIMESTAMP else reply
        data_seqs.append(data_seq)
    return Header(length_bytes, VERSION, PacketType.DATA, True, stamp, reply, flow_id, seq, first_data_seq), data_seqs


def clear_train(
    packets: Sequence[bytes], flow_id: int, seq: int, data_seqs: Sequence[int], stamp: int, reply: int
) -> bytes:
    """Return cleartext DATA datagrams of consecutive seq, end to end; only the first answers a timestamp. HOT PATH."""
    datagrams = []
    for packet, data_seq in zip(packets, data_seqs, strict=True):
        datagrams += [HEADER.pack(len(packet), _DATA_FLAGS, _REORDER_BIT, stamp, reply, flow_id, seq, data_seq), packet]
        seq, reply = seq + 1, NO_TIMESTAMP
    return b"".join(datagrams)


def seal(body: bytes, flow_id: int, seq: int, key: bytes) -> bytes:
    """Return MAC and ciphertext; the pair of flow_id and seq must never be used twice with one key. HOT PATH."""
    sealed: bytes = crypto_secretbox(body, NONCE.pack(seq, flow_id), key)
    return sealed


def open_sealed(sealed: bytes, flow_id: int, seq: int, key: bytes) -> bytes:
    """Return the body, or raise PeerError when the key or a single bit is another one. HOT PATH."""
    try:
        body: bytes = crypto_secretbox_open(sealed, NONCE.pack(seq, flow_id), key)
    except (CryptoError, ValueError) as error:
        raise PeerError("a datagram that does not open") from error
    return body
