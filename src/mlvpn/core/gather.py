"""TCP packets that the kernel handed over one by one, joined to the super-packets they could have been.

A network card without GRO, or a bridge behind a TAP, gives single packets, and everything behind the TUN costs as much
for one of them as for a super-packet: forwarded TCP was a third as fast (2026-11). The far kernel cuts them again.

Owns which packets are put beside each other: those of one flow, in their order, out of one burst. Does not own what may
be joined (`wire/rejoin.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mlvpn.burst.segments import rejoin
from mlvpn.wire.vnet import DATA_VALID, HEADER_BYTES, NO_OFFLOAD

WORTH_BYTES: Final = 600
"""Bursts of smaller packets (acknowledgements, voice) are not looked into: they would pay for nothing."""
_TCP: Final = 6
_PLAIN: Final = (NO_OFFLOAD, DATA_VALID)
"""What stands before a packet that is whole; the second where a card has verified its checksum."""


def gather(frames: list[bytes], link_header_bytes: int) -> list[bytes]:
    """Join what can be joined of a burst of TUN frames; flows may change places, packets of a flow do not. HOT PATH."""
    if len(frames) < 2 or max(map(len, frames)) < WORTH_BYTES:
        return frames
    gathered: list[bytes] = []
    flows: dict[bytes, list[bytes]] = {}
    for frame in frames:
        flow = _tcp_flow(frame, HEADER_BYTES + link_header_bytes)
        if flow:
            flows.setdefault(flow, []).append(frame[HEADER_BYTES:])
        else:
            if flows and not frame.startswith(_PLAIN):  # a super-packet may belong to any of them
                gathered += _join(flows.values(), link_header_bytes)
                flows = {}
            gathered.append(frame)
    return gathered + _join(flows.values(), link_header_bytes) if flows else gathered


def _tcp_flow(frame: bytes, l3: int) -> bytes:
    """Return the addresses and ports of a finished TCP packet; nothing for all else."""
    if not frame.startswith(_PLAIN) or len(frame) < l3 + 40:
        return b""
    if frame[l3] == 0x45 and frame[l3 + 9] == _TCP:
        return frame[l3 + 12 : l3 + 24]
    return frame[l3 + 8 : l3 + 44] if frame[l3] >> 4 == 6 and frame[l3 + 6] == _TCP else b""


def _join(flows: Iterable[list[bytes]], link_header_bytes: int) -> list[bytes]:
    return [frame for packets in flows for frame in rejoin(packets, link_header_bytes)]
