"""The worker's half of a device, on a socket pair that keeps packet borders as a device does."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from mlvpn.system.tun import Kind, Tun, TunInfo
from mlvpn.wire.vnet import GSO_NONE, NEEDS_CSUM, VnetHeader

OFFLOADS = ("csum", "tso4", "tso6")
NEEDS_UDP_CSUM = VnetHeader(NEEDS_CSUM, GSO_NONE, 28, 0, 20, 6).pack()
FRAME = bytes(10) + b"\x45" + bytes(39)


@pytest.fixture
def kernel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with ours, theirs:
        yield ours, theirs


def test_vnet_device_passes_frames_as_they_are(kernel: tuple[socket.socket, socket.socket]) -> None:
    device = Tun(kernel[0].fileno(), TunInfo("mlvpn0", "tun", 1400, OFFLOADS, ""))
    kernel[1].send(FRAME)
    kernel[1].send(FRAME)
    assert device.read_burst(9, 1 << 20) == [FRAME, FRAME]
    device.write_burst([[FRAME[:30], FRAME[30:]], (FRAME,)])
    assert [kernel[1].recv(99), kernel[1].recv(99)] == [FRAME, FRAME]
    assert (device.counters.read_frames, device.counters.written_frames) == (2, 2)


@pytest.mark.parametrize(
    ("kind", "offloads", "writes"),
    [("tun", (*OFFLOADS, "uso4", "uso6"), 1), ("tun", OFFLOADS, 8), ("tap", (*OFFLOADS, "uso4", "uso6"), 8)],
)
def test_small_packets_are_one_write_where_the_device_can_take_them_apart(
    kernel: tuple[socket.socket, socket.socket], kind: Kind, offloads: tuple[str, ...], writes: int
) -> None:
    device = Tun(kernel[0].fileno(), TunInfo("mlvpn0", kind, 1400, offloads, ""))
    packet = bytes.fromhex("4500005c00004000401100000a0000010a000002") + bytes.fromhex("1388003500481234") + bytes(64)
    device.write_burst([(NEEDS_UDP_CSUM, packet)] * 8)
    assert device.counters.written_frames == writes


def test_plain_device_looks_alike_from_above(kernel: tuple[socket.socket, socket.socket]) -> None:
    device = Tun(kernel[0].fileno(), TunInfo("mlvpn0", "tun", 1400, (), "old kernel"))
    kernel[1].send(FRAME[10:])
    assert device.read_burst(9, 1 << 20) == [FRAME]
    device.write_burst([[FRAME[:30], FRAME[30:]]])
    assert kernel[1].recv(99) == FRAME[10:]


def test_budgets_end_a_burst(kernel: tuple[socket.socket, socket.socket]) -> None:
    device = Tun(kernel[0].fileno(), TunInfo("mlvpn0", "tun", 1400, OFFLOADS, ""))
    for _ in range(10):
        kernel[1].send(FRAME)
    assert [len(device.read_burst(3, 1 << 20)), len(device.read_burst(99, 2 * len(FRAME)))] == [3, 2]


def test_full_queue_is_a_counted_drop(kernel: tuple[socket.socket, socket.socket]) -> None:
    device = Tun(kernel[0].fileno(), TunInfo("mlvpn0", "tun", 1400, OFFLOADS, ""))
    device.write_burst([[FRAME]] * 5000)
    counters = device.counters
    assert counters.dropped_queue_full > 0
    assert counters.dropped_queue_full + counters.written_frames == 5000


def test_description_survives_the_way_through_json(kernel: tuple[socket.socket, socket.socket]) -> None:
    info = TunInfo("mlvpn0", "tap", 1400, (), "switched off by MLVPN_NO_OFFLOAD")
    described = json.loads(json.dumps(Tun(kernel[0].fileno(), info).describe()))
    assert (described["plain_because"], described["offloads"], described["fallbacks"]) == (info.plain_because, [], [])
    assert described["counters"]["dropped_interface_down"] == 0
