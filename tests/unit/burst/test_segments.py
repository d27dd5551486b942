"""The splitting of super-packets in C against that in Python."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inner_tcp import ACK, CWR, FIN, IPV4, IPV6, PSH, super_packet
from mlvpn.burst import secretbox, segments
from mlvpn.errors import PeerError
from mlvpn.wire.vnet import HEADER_BYTES, NO_OFFLOAD, VnetHeader, segment

frames = st.builds(
    super_packet,
    st.sampled_from([IPV4, IPV6]),
    st.booleans(),
    st.integers(1, 900).map(random.Random(1).randbytes),
    st.integers(1, 300),
    st.sampled_from(["tun", "tap", "vlan"]),
    st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH | CWR]),
)


@given(frames)
def test_the_twins_agree(frame: bytes) -> None:
    assert segments.split(frame) == [packet[HEADER_BYTES:] for packet in segment(frame)]


def test_a_finished_packet_stays_as_it_is() -> None:
    assert segments.split(NO_OFFLOAD + b"packet") == [b"packet"]


@pytest.mark.skipif(secretbox.KERNEL is None, reason="the kernel is not built: secretbox_build")
@pytest.mark.parametrize("cut", [1, 400, 890, 898])
def test_the_kernel_sees_no_super_packet_whose_lengths_differ(cut: int) -> None:
    with pytest.raises(PeerError):
        segments.split(super_packet(IPV4, True, bytes(900), 100)[:-cut])


def test_a_super_packet_that_ends_within_its_headers_is_refused() -> None:
    with pytest.raises(PeerError):
        segments.split(super_packet(IPV4, True, bytes(900), 100)[:30])


@pytest.mark.parametrize("change", [{"gso_bytes": 0}, {"csum_start": 16}, {"csum_start": 3}, {"csum_start": 60_000}])
def test_a_vnet_header_that_contradicts_its_packet_is_refused(change: dict[str, int]) -> None:
    frame = super_packet(IPV4, True, bytes(900), 100)
    with pytest.raises(PeerError):
        segments.split(VnetHeader.unpack(frame)._replace(**change).pack() + frame[HEADER_BYTES:])
