"""The burst kernels in pure Python: complete, and the specification of the C ones (contract: ``api``).

In the order in which a packet meets them: cut and seal on one host, authenticate and join on the other.

Measured costs decided the form (Python 3.11, cryptography 50, 1400-byte slices): the AEAD call is 1.2 us to seal and
0.9 us to open, ``encrypt_into`` and ``decrypt_into`` with memoryviews are 0.2 and 0.4 us slower than fresh ``bytes``,
and a NamedTuple costs 0.2 us more than a tuple; so datagrams between authentication and joining are plain tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from cryptography.exceptions import InvalidTag

from mlvpn.burst.api import OFFSET_LIMIT, VNET_HEADER_BYTES, Opened, check_slices
from mlvpn.crypto.aead import NONCE_BYTES, TAG_BYTES, Cipher, new_aead
from mlvpn.wire.frame import GSEQ_MODULUS, SLICE_HEAD, Kind
from mlvpn.wire.header import HEADER_BYTES, LSEQ_LIMIT, OVERHEAD_BYTES, DatagramType

_DATA, _DATA_CLEAR = int(DatagramType.DATA), int(DatagramType.DATA_CLEAR)
_TCP_SLICES = int(Kind.SLICE_TCP4), int(Kind.SLICE_TCP6)
_UDP_SLICE = int(Kind.SLICE_UDP)
"""As plain numbers: an enum's member costs a look-up per use."""

_HEADER = Struct(">QII")
"""type, link and lseq as one word (``word + 1`` is the link's next datagram), index, ts."""
_TYPE_SHIFT, _LINK_SHIFT = 56, 48

_TCP_HEADER_BYTES = 20
_TCP_DATA_OFFSET_AT = 12
"""Upper four bits: length of the TCP header in 32-bit words (RFC 9293, section 3.1)."""
_UDP_HEADER_BYTES = 8

_Datagram = tuple[int, int, bytes]
"""An authentic datagram: header word, ts, body."""


class Sealer:
    """See ``api.Sealer``."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        self._encrypt = new_aead(cipher, key).encrypt
        self._index = index
        self._cleartext = cleartext

    def seal_slices(
        self,
        link: int,
        lseq: int,
        ts_us: int,
        first_byte: int,
        gseq: int,
        frame: bytes,
        csum_start: int,
        header_bytes: int,
        slice_bytes: int,
        offset: int,
        count: int,
    ) -> bytes:
        """See ``api.Sealer.seal_slices``."""
        payload_at = VNET_HEADER_BYTES + header_bytes
        check_slices(len(frame) - payload_at, header_bytes, slice_bytes, offset, count)
        template, payload = frame[VNET_HEADER_BYTES:payload_at], memoryview(frame)[payload_at:]
        bodies = []
        for at in range(offset, offset + count * slice_bytes, slice_bytes):  # HOT PATH
            head = SLICE_HEAD.pack(first_byte, gseq % GSEQ_MODULUS, at, csum_start)
            bodies.append(b"".join((head, template, payload[at : at + slice_bytes])))
            gseq += 1
        return b"".join(self._seal(link, lseq, ts_us, bodies))

    def seal_bodies(self, link: int, lseq: int, ts_us: int, bodies: Sequence[bytes]) -> list[bytes]:
        """See ``api.Sealer.seal_bodies``."""
        parts = self._seal(link, lseq, ts_us, bodies)
        return [clear + sealed for clear, sealed in zip(parts[::2], parts[1::2], strict=True)]

    def _seal(self, link: int, lseq: int, ts_us: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return two parts per datagram, what is clear in it and what is not: putting a train together copies once."""
        encrypt, pack, index = self._encrypt, _HEADER.pack, self._index
        word = (_DATA_CLEAR if self._cleartext else _DATA) << _TYPE_SHIFT | link << _LINK_SHIFT | lseq
        parts: list[bytes] = []
        for body in bodies:  # HOT PATH
            clear = pack(word, index, ts_us)
            if self._cleartext:
                clear, body = clear + body, b""
            parts += (clear, encrypt(clear[:NONCE_BYTES], body, clear))
            word += 1
        return parts


class Opener:
    """See ``api.Opener``."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        self._decrypt = new_aead(cipher, key).decrypt
        self._index = index
        self._cleartext = cleartext

    def open_train(self, data: bytes, datagram_bytes: int) -> tuple[list[Opened], int]:
        """See ``api.Opener.open_train``."""
        size = datagram_bytes if datagram_bytes > 0 else max(len(data), 1)
        datagrams = self._authentic(data, size)
        opened = []
        first = 0
        while first < len(datagrams):
            run = _join(datagrams, first)
            opened.append(run)
            first += run.count
        return opened, -(-len(data) // size) - len(datagrams)

    def _authentic(self, data: bytes, size: int) -> list[_Datagram]:
        """Return the datagrams that the peer sealed for this session, in order."""
        if size < OVERHEAD_BYTES:
            return []
        decrypt, unpack, our_index = self._decrypt, _HEADER.unpack, self._index
        view = memoryview(data)
        datagrams = []
        for at in range(0, len(data) - OVERHEAD_BYTES + 1, size):  # HOT PATH
            body_at = at + HEADER_BYTES
            header = data[at:body_at]
            word, index, ts_us = unpack(header)
            if index != our_index:
                continue
            try:
                if word >> _TYPE_SHIFT == _DATA:
                    body = decrypt(header[:NONCE_BYTES], view[body_at : at + size], header)
                elif word >> _TYPE_SHIFT == _DATA_CLEAR and self._cleartext:
                    body = self._authentic_clear(data[at : at + size])
                else:
                    continue
            except InvalidTag:
                continue
            datagrams.append((word, ts_us, body))
        return datagrams

    def _authentic_clear(self, datagram: bytes) -> bytes:
        clear = datagram[:-TAG_BYTES]
        self._decrypt(clear[:NONCE_BYTES], datagram[-TAG_BYTES:], clear)
        return clear[HEADER_BYTES:]


def _join(datagrams: Sequence[_Datagram], first: int) -> Opened:
    """Return the datagram at ``first``, with every neighbour that continues it."""
    word, ts_us, body = datagrams[first]
    link, lseq = word >> _LINK_SHIFT & 0xFF, word % LSEQ_LIMIT
    payload_at = slice_payload_at(body)
    if not payload_at:
        return Opened(link, lseq, 1, ts_us, body, 0)
    slice_bytes = len(body) - payload_at
    end = _run_end(datagrams, first, payload_at)
    if end > first + 1:
        body = b"".join([body, *[datagram[2][payload_at:] for datagram in datagrams[first + 1 : end]]])
    return Opened(link, lseq, end - first, ts_us, body, slice_bytes)


def slice_payload_at(body: bytes) -> int:
    """Return where the payload of a slice begins; 0: the body is no slice, or has a broken or no payload."""
    if len(body) <= SLICE_HEAD.size:
        return 0
    kind = body[0] >> 5
    l4_at = SLICE_HEAD.size + body[SLICE_HEAD.size - 1]
    if kind == _UDP_SLICE:
        payload_at = l4_at + _UDP_HEADER_BYTES
    elif kind in _TCP_SLICES and l4_at + _TCP_HEADER_BYTES < len(body):
        payload_at = l4_at + max((body[l4_at + _TCP_DATA_OFFSET_AT] >> 4) * 4, _TCP_HEADER_BYTES)
    else:
        return 0
    return payload_at if payload_at < len(body) else 0


def _run_end(datagrams: Sequence[_Datagram], first: int, payload_at: int) -> int:
    """Return the index after the last of the neighbours that continue the slice at ``first``."""
    word, _, body = datagrams[first]
    first_byte, gseq, offset, csum_start = SLICE_HEAD.unpack_from(body)
    template = body[SLICE_HEAD.size : payload_at]
    full_bytes = len(body)
    for at in range(first + 1, len(datagrams)):  # HOT PATH
        word, gseq, offset = word + 1, (gseq + 1) % GSEQ_MODULUS, offset + full_bytes - payload_at
        next_word, _, next_body = datagrams[at]
        if next_word != word or not word % LSEQ_LIMIT or offset >= OFFSET_LIMIT:
            return at
        if not payload_at < len(next_body) <= full_bytes:
            return at
        if not next_body.startswith(SLICE_HEAD.pack(first_byte, gseq, offset, csum_start) + template):
            return at
        if len(next_body) < full_bytes:
            return at + 1
    return len(datagrams)
