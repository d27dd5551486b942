"""Super-packets split, and packets joined to super-packets, with one call each: in C where it was built.

Owns the choice and the call. Does not own what is done, nor how it is done in Python (``wire/vnet.py: segment``,
``wire/rejoin.py``). The kernel is in one module with that of ``secretbox.py``, whose protocol needs both functions all
the time; the native one joins what a network card without GRO hands over singly (``core/gather.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlvpn.burst.secretbox import KERNEL
from mlvpn.errors import PeerError
from mlvpn.wire.rejoin import rejoin as rejoin_in_python
from mlvpn.wire.vnet import GSO_ECN, GSO_NONE, GSO_UDP, HEADER_BYTES, VnetHeader, header_length, ip_span, segment


def split(frame: bytes) -> list[bytes]:
    """Return the packets of a TUN frame, finished and without vnet header; raise PeerError. HOT PATH."""
    vnet = VnetHeader.unpack(frame)
    gso_type = vnet.gso_type & ~GSO_ECN
    if KERNEL is None or gso_type == GSO_NONE:
        return [packet[HEADER_BYTES:] for packet in segment(frame)]
    packet = frame[HEADER_BYTES:]
    header_bytes = header_length(packet, 0, vnet.csum_start, gso_type)
    l3, end = ip_span(packet, vnet.csum_start)
    step, payload_bytes = vnet.gso_bytes, len(packet) - header_bytes
    if end != len(packet) or step == 0 or payload_bytes == 0:
        raise PeerError(f"super-packet of {len(packet)} bytes whose IP header says {end}, with a gso size of {step}")
    out = bytearray(len(packet) + header_bytes * ((payload_bytes - 1) // step))
    KERNEL.lib.segments_split(
        KERNEL.ffi.from_buffer("uint8_t[]", out),
        packet,
        len(packet),
        header_bytes,
        l3,
        vnet.csum_start,
        gso_type != GSO_UDP,
        step,
    )
    whole, size = bytes(out), header_bytes + step
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def rejoin(packets: Sequence[bytes], l2_bytes: int) -> list[bytes]:
    """Return TUN frames: the packets in their order, joined where they can be. HOT PATH."""
    if KERNEL is None:
        return rejoin_in_python(packets, l2_bytes)
    ffi, count, plain = KERNEL.ffi, len(packets), b"".join(packets)
    out, lengths = bytearray(len(plain) + HEADER_BYTES * count), ffi.new("uint32_t[]", count)
    packet_bytes = ffi.new("uint32_t[]", list(map(len, packets)))
    buffer = ffi.from_buffer("uint8_t[]", out)
    frames = KERNEL.lib.segments_rejoin(buffer, lengths, plain, packet_bytes, count, l2_bytes)
    view, start = memoryview(out), 0
    found = []
    for length in ffi.unpack(lengths, frames):
        found.append(bytes(view[start : start + length]))
        start += length
    return found
