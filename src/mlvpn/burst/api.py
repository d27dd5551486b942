"""What every implementation of the burst kernels offers: seal a run, open a train.

Owns the types ``Sealer``, ``Opener`` and ``Opened``, and which slices can be cut. Does not own the formats
(``wire/header.py``, and of ``wire/frame.py`` the slices; every other body is opaque here), nor replay windows, session
look-up and the meaning of a frame: the core has those.

A datagram is the 16-byte header, the sealed body and the 16-byte tag; the header's first 12 bytes are the nonce, all of
it is authenticated. With ``cleartext`` the type is DATA_CLEAR and the body is authenticated as it stands: the tag is
that of an empty plaintext.

A slice's template is the super-packet's own headers: ``csum_start`` bytes and then the TCP header (as long as its data
offset says) or 8 bytes of UDP header.

Objects are for one thread each: an implementation may keep buffers and cipher contexts between calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from mlvpn.crypto.aead import Cipher

VNET_HEADER_BYTES: Final = 10
"""``struct virtio_net_hdr`` in front of every TUN frame."""
OFFSET_LIMIT: Final = 1 << 16
"""What a slice's field for its offset can say."""


class Opened:
    """One authentic datagram, or neighbouring slice datagrams joined into one body."""

    __slots__ = ("body", "count", "link", "lseq", "more", "slice_bytes", "ts_us")

    def __init__(
        self,
        link: int,
        lseq: int,
        count: int,
        ts_us: int,
        body: bytes,
        slice_bytes: int,
        more: Sequence[bytes] = (),
    ) -> None:
        self.link = link
        self.lseq = lseq
        """Of the first datagram; the others follow without a gap."""
        self.count = count
        """How many datagrams this was."""
        self.ts_us = ts_us
        """The sender's clock in the first datagram, microseconds modulo 2^32."""
        self.body = body
        """As it was sealed; for joined slices the first slice's header, the template and all payloads."""
        self.slice_bytes = slice_bytes
        """Payload bytes of every slice but the last, which may be shorter; 0: the body is no slice."""
        self.more = more
        """Bodies of the datagrams behind the first, where the core has gathered some that are no slices."""


class Sealer(Protocol):
    """Makes the datagrams of one session in one direction."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        """Take the sending key and the receiver's session index; ``cleartext`` sends DATA_CLEAR."""

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
        """Cut ``count`` slices off a super-packet; return their datagrams back to back, all equal but the last.

        ``frame`` is a TUN frame: vnet header, ``header_bytes`` of L2 to L4 header, payload. The slices begin at
        ``offset`` in the payload and have ``slice_bytes`` each; the payload's end may make the last one shorter.
        lseq and gseq count up by one per datagram. ValueError: a slice would be empty or out of the frame.
        """

    def seal_bodies(self, link: int, lseq: int, ts_us: int, bodies: Sequence[bytes]) -> list[bytes]:
        """Return one datagram per body; lseq counts up by one per datagram."""


class Opener(Protocol):
    """Authenticates the datagrams of one session in one direction."""

    def __init__(self, cipher: Cipher, key: bytes, index: int, cleartext: bool) -> None:
        """Take the receiving key and our session index; ``cleartext`` accepts DATA_CLEAR beside DATA."""

    def open_train(self, data: bytes, datagram_bytes: int) -> tuple[list[Opened], int]:
        """Open datagrams of ``datagram_bytes`` each (the last may be shorter; 0: ``data`` is one datagram).

        Return what is authentic, in order, and the number of datagrams that are not: too short, of another type or
        index, or with a wrong tag. No input raises. Neighbouring slices are joined when link, first byte, csum_start
        and template are the same, lseq, gseq and offset follow on, and the payloads are equally long; a shorter
        payload is the last of its run.
        """


def check_slices(payload_bytes: int, header_bytes: int, slice_bytes: int, offset: int, count: int) -> None:
    """Raise ValueError unless every slice holds at least one byte of the payload and an offset fits its field."""
    are_some = header_bytes >= 1 and slice_bytes >= 1 and count >= 1 and offset >= 0
    last = offset + (count - 1) * slice_bytes
    if not are_some or last >= payload_bytes or last >= OFFSET_LIMIT:
        raise ValueError(
            f"{count} slices of {slice_bytes} bytes from {offset} do not lie in a payload of {payload_bytes}"
        )
