"""UDP packets that a program has sent one by one, joined into the super-packet they would be with UDP_SEGMENT.

Large packets are joined where they come from (``join``): a super-packet costs the tunnel little more than one packet,
at both ends; the far kernel takes it apart again, or `system/tun.py` does where that kernel cannot. Small ones share
datagrams instead, and are joined where they are written to the TUN (``join_writes``): one write for up to 64, of which
each would cost more than everything else that is done for it.

Owns which packets may be joined, and the joining; `wire/vnet.py: segment` is the inverse. Joined are only neighbours
of one burst, so nothing waits and nothing is overtaken; only packets with the Don't Fragment bit, without which an
IPv4 identification would mean something (RFC 6864, section 4); and only with a checksum that is still to be made, for
joining would mend one that is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from mlvpn.core.burst_io import Delivery
from mlvpn.wire.vnet import GSO_NONE, GSO_UDP, HEADER_BYTES, NEEDS_CSUM, UDP_CSUM_OFFSET, VnetHeader, checksum

LEAST_PACKETS: Final = 6
"""Fewer large ones may belong to a flow that asks for little, whose packets overtake others one by one: with
``LEAST_BYTES`` each, so many are more than `flow.SPARSE_BYTES`. For fewer small ones the look costs what it saves."""
MOST_PACKETS: Final = 64
"""UDP_MAX_SEGMENTS of kernels before 6.9."""
LEAST_BYTES: Final = 720
"""Of a packet: below, two of them share a datagram on the way, which saves more."""

_LONGEST_BYTES: Final = 65_535
_IPV4_BYTES, _IPV6_BYTES, _UDP_BYTES = 20, 40, 8
_UDP: Final = 17
_DONT_FRAGMENT: Final = b"\x40\x00"
_VNET_START: Final = bytes((NEEDS_CSUM, GSO_NONE))
_U16: Final = struct.Struct(">H")
_IPV4_CHECKSUM: Final = struct.Struct("<H")  # see ``vnet.checksum``


def join_writes(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return what is to be written to a TUN that takes UDP super-packets, single packets joined. HOT PATH."""
    out: list[Delivery] = []
    at, end = 0, len(deliveries)
    while at < end:
        vnet, stop = deliveries[at][0], at + 1
        if len(vnet) == HEADER_BYTES and vnet[:2] == _VNET_START:
            while stop < end and deliveries[stop][0] == vnet:
                stop += 1
        if stop - at >= LEAST_PACKETS:
            out += [(frame,) for frame in join([b"".join(buffers) for buffers in deliveries[at:stop]], 0)]
        else:
            out += deliveries[at:stop]
        at = stop
    return out


def join(frames: Sequence[bytes], least_bytes: int = LEAST_BYTES) -> list[bytes]:
    """Return the TUN frames of one burst, equal UDP packets of one flow of at least so many bytes joined. HOT PATH."""
    out: list[bytes] = []
    at, end = 0, len(frames)
    while at < end:
        l4 = _udp_start(frames[at], least_bytes)
        stop = _run_end(frames, at, l4) if l4 else at + 1
        if stop - at >= LEAST_PACKETS:
            out.append(_super_packet(frames[at:stop], l4))
        else:
            out += frames[at:stop]
        at = stop
    return out


def _udp_start(frame: bytes, least_bytes: int) -> int:
    """Return where the UDP header of a packet that may be joined begins; 0: it may not."""
    if len(frame) < HEADER_BYTES + least_bytes or frame[:2] != _VNET_START:
        return 0
    vnet, packet_bytes = VnetHeader.unpack(frame), len(frame) - HEADER_BYTES
    l4 = vnet.csum_start
    if vnet.csum_offset != UDP_CSUM_OFFSET or packet_bytes <= l4 + _UDP_BYTES:
        return 0
    first = frame[HEADER_BYTES]
    if first == 0x45 and l4 == _IPV4_BYTES:
        whole = frame[16:18] == _DONT_FRAGMENT and _U16.unpack_from(frame, 12)[0] == packet_bytes
        protocol = frame[19]
    elif first >> 4 == 6 and l4 == _IPV6_BYTES:
        whole = _U16.unpack_from(frame, 14)[0] == packet_bytes - _IPV6_BYTES
        protocol = frame[16]
    else:
        return 0
    udp_bytes = _U16.unpack_from(frame, HEADER_BYTES + l4 + 4)[0]
    return l4 if whole and protocol == _UDP and udp_bytes == packet_bytes - l4 else 0


def _run_end(frames: Sequence[bytes], first: int, l4: int) -> int:
    """Return the index after the last of the neighbours that make one super-packet with the frame at ``first``."""
    size = len(frames[first])
    header_bytes = l4 + _UDP_BYTES
    most = min(MOST_PACKETS, (_LONGEST_BYTES - header_bytes) // (size - HEADER_BYTES - header_bytes))
    constant = _constant(frames[first], l4)
    for at in range(first + 1, min(first + most, len(frames))):
        if len(frames[at]) != size or _constant(frames[at], l4) != constant:
            return at
    return min(first + most, len(frames))


def _constant(frame: bytes, l4: int) -> bytes:
    """Return what of the headers is the same in all packets: all but an IPv4 identification and header checksum."""
    if l4 == _IPV4_BYTES:
        return frame[:14] + frame[16:20] + frame[22:38]
    return frame[: HEADER_BYTES + _IPV6_BYTES + _UDP_BYTES]


def _super_packet(frames: Sequence[bytes], l4: int) -> bytes:
    """Return one TUN frame for all; the checksum field holds the pseudo header's sum, in which one length changes."""
    header_bytes = l4 + _UDP_BYTES
    start = HEADER_BYTES + header_bytes
    single_bytes = len(frames[0]) - start
    udp_bytes = _UDP_BYTES + single_bytes * len(frames)
    header = bytearray(frames[0][HEADER_BYTES:start])
    if l4 == _IPV4_BYTES:
        _U16.pack_into(header, 2, l4 + udp_bytes)
        _IPV4_CHECKSUM.pack_into(header, 10, 0)
        _IPV4_CHECKSUM.pack_into(header, 10, checksum(header[:l4]) % 0xFFFF)
    else:
        _U16.pack_into(header, 4, udp_bytes)
    seed = _U16.unpack_from(header, l4 + UDP_CSUM_OFFSET)[0] + udp_bytes - _UDP_BYTES - single_bytes
    _U16.pack_into(header, l4 + 4, udp_bytes)
    _U16.pack_into(header, l4 + UDP_CSUM_OFFSET, seed % 0xFFFF)
    vnet = VnetHeader(NEEDS_CSUM, GSO_UDP, header_bytes, single_bytes, l4, UDP_CSUM_OFFSET).pack()
    return b"".join([vnet, header, *[frame[start:] for frame in frames]])
