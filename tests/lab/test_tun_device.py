"""TUN and TAP devices against the real kernel: offloads probed and doubted, traffic through two of them.

[namespace a]  socket - tun - (this test: cut into slices, join pieces) - tun - socket  [namespace b]
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from own_net import OwnNet

from mlvpn.errors import SystemFailure
from mlvpn.system import tun
from mlvpn.system.tun import Kind, Tun, open_tun
from mlvpn.wire import vnet

pytestmark = pytest.mark.root

PAYLOAD = random.Random(1).randbytes(3_000_000)
DEADLINE_S = 20.0
UDP_SEGMENT = 103


@pytest.fixture
def nets() -> Iterator[tuple[OwnNet, OwnNet]]:
    pair = (OwnNet(), OwnNet())
    yield pair
    for net in pair:
        net.close()


@pytest.fixture
def net() -> Iterator[OwnNet]:
    own = OwnNet()
    with own:
        yield own
    own.close()


def opened(net: OwnNet, number: int, kind: Kind = "tun") -> Tun:
    """Open a device with addresses 10.7.0.<number> and fd07::<number>, up."""
    with net:
        fd, info = open_tun("t%d", kind, 1400)
        for command in (
            f"addr add 10.7.0.{number}/24 dev {info.name}",
            f"addr add fd07::{number}/64 dev {info.name} nodad",
            f"link set {info.name} up",
        ):
            net.ip(command)
    return Tun(fd, info)


def refuse_offloads(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Let the kernel look as old as one that knows none of these TUN_F bits."""
    real: Callable[..., Any] = fcntl.ioctl

    def ioctl(fd: Any, request: int, argument: Any = 0) -> Any:
        if request == 0x400454D0 and argument & bits:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(fd, request, argument)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)


# ---- opening


def test_device_has_offloads_mtu_and_queue(net: OwnNet) -> None:
    fd, info = open_tun("", "tun", 1234)
    (link,) = json.loads(net.ip(f"-j link show {info.name}"))
    assert (info.name[:5], link["mtu"], link["txqlen"]) == ("mlvpn", 1234, 1000)
    assert info.offloads[:3] == ("csum", "tso4", "tso6")
    assert info.plain_because == ""
    assert json.loads(json.dumps(Tun(fd, info).describe()))["mtu_bytes"] == 1234
    os.close(fd)


@pytest.mark.parametrize(("unknown_bits", "left"), [(0x60, ("csum", "tso4", "tso6")), (0x7F, ())])
def test_older_kernels_get_the_next_level(
    net: OwnNet, monkeypatch: pytest.MonkeyPatch, unknown_bits: int, left: tuple[str, ...]
) -> None:
    refuse_offloads(monkeypatch, unknown_bits)
    fd, info = open_tun("mine", "tap", 1400)
    assert (info.name, info.offloads, bool(info.plain_because)) == ("mine", left, not left)
    os.close(fd)


def test_environment_forces_a_plain_device(net: OwnNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLVPN_NO_OFFLOAD", "1")
    fd, info = open_tun("mine", "tun", 1400)
    assert (info.offloads, info.plain_because) == ((), "switched off by MLVPN_NO_OFFLOAD")
    os.close(fd)


@pytest.mark.parametrize(
    ("name", "mtu_bytes", "cure"),
    [("busy0", 1400, "stop that one"), ("x" * 16, 1400, "shorten"), ("big0", 99_999, "MTU")],
)
def test_refusals_say_what_to_do(net: OwnNet, name: str, mtu_bytes: int, cure: str) -> None:
    holder, _ = open_tun("busy0", "tun", 1400)
    with pytest.raises(SystemFailure, match=cure):
        open_tun(name, "tun", mtu_bytes)
    os.close(holder)


def test_failed_opening_leaves_no_descriptor(net: OwnNet) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with pytest.raises(SystemFailure):
        open_tun("big0", "tun", 99_999)
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


# ---- traffic


class Bridge:
    """Carry frames between two devices as the tunnel would: super-packets as slices, joined again in pieces."""

    def __init__(self, one: Tun, other: Tun, seed: int, loss_ratio: float) -> None:
        self.random = random.Random(seed)
        self.loss_ratio = loss_ratio
        self.super_packets = 0
        self.ends = {one: other, other: one}

    def carry(self) -> None:
        """Carry what is waiting at either end."""
        for source, target in self.ends.items():
            deliveries: list[list[bytes]] = []
            for frame in source.read_burst(64, 1 << 20):
                deliveries += self.slices_and_pieces(frame)
            target.write_burst(deliveries)

    def slices_and_pieces(self, frame: bytes) -> Iterator[list[bytes]]:
        head = vnet.VnetHeader.unpack(frame)
        if not head.gso_type:
            yield [frame]
            return
        self.super_packets += 1
        start = 10 + vnet.header_length(frame, 10, head.csum_start, head.gso_type)
        template, step = frame[10:start], head.gso_bytes
        piece, piece_at = b"", 0
        for at in range(0, len(frame) - start, step):
            if self.random.random() >= self.loss_ratio:
                piece += frame[start + at : start + at + step]
                continue
            if piece:  # a slice was lost: what is here so far is a piece of its own
                yield vnet.piece_frame(head.gso_type, head.csum_start, template, piece_at, [piece], step)
            piece, piece_at = b"", at + step
        if piece:
            yield vnet.piece_frame(head.gso_type, head.csum_start, template, piece_at, [piece], step)


def transfer(bridge: Bridge, nets: tuple[OwnNet, OwnNet], family: int, host: str) -> bytes:
    """Send PAYLOAD over one TCP connection from the first namespace to the second; return what arrived."""
    with nets[1]:
        listener = socket.create_server((host, 7000), family=family)
    with nets[0]:
        client = socket.socket(family, socket.SOCK_STREAM)
    received = bytearray()
    to_send = memoryview(PAYLOAD)
    with selectors.DefaultSelector() as selector, listener, client:
        for sock in (listener, client):
            sock.setblocking(False)
        client.connect_ex((host, 7000))
        for device in bridge.ends:
            selector.register(device, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(client, selectors.EVENT_WRITE)
        deadline = time.monotonic() + DEADLINE_S
        while len(received) < len(PAYLOAD):
            assert time.monotonic() < deadline, f"{len(received)} bytes arrived"
            for key, _ in selector.select(0.2):
                if key.fileobj is listener:
                    server = listener.accept()[0]
                    server.setblocking(False)
                    selector.register(server, selectors.EVENT_READ)
                elif key.fileobj is client:
                    to_send = to_send[client.send(to_send[:200_000]) :]
                    if not to_send:
                        selector.unregister(client)
                elif isinstance(key.fileobj, socket.socket):
                    received += key.fileobj.recv(1 << 20)
            bridge.carry()
        server.close()
    return bytes(received)


@pytest.mark.parametrize("loss_ratio", [0.0, 0.01])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "10.7.0.2"), (socket.AF_INET6, "fd07::2")])
@pytest.mark.parametrize("kind", ["tun", "tap"])
@pytest.mark.parametrize("plain", ["", "sender", "receiver"])
def test_tcp_through_slices_and_pieces(
    nets: tuple[OwnNet, OwnNet],
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    family: int,
    host: str,
    plain: str,
    loss_ratio: float,
) -> None:
    devices = []
    for number, role in ((1, "sender"), (2, "receiver")):
        monkeypatch.setenv("MLVPN_NO_OFFLOAD", "1" if plain == role else "")
        devices.append(opened(nets[number - 1], number, kind))
    bridge = Bridge(devices[0], devices[1], seed=7, loss_ratio=loss_ratio)
    assert transfer(bridge, nets, family, host) == PAYLOAD
    with nets[1]:
        assert nets[1].counter("Tcp", "InCsumErrors") == nets[1].counter("Ip", "InHdrErrors") == 0
    assert (bridge.super_packets > 20) == (plain != "sender")
    counters = devices[1].counters
    assert counters.gso_refused == counters.dropped_refused == counters.dropped_malformed == 0
    assert bool(counters.split_frames) == (plain == "receiver")
    for device in devices:
        device.close()


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "10.7.0.2"), (socket.AF_INET6, "fd07::2")])
@pytest.mark.parametrize("loss_ratio", [0.0, 0.2])
def test_udp_super_packets(nets: tuple[OwnNet, OwnNet], family: int, host: str, loss_ratio: float) -> None:
    devices = opened(nets[0], 1), opened(nets[1], 2)
    if "uso4" not in devices[0].info.offloads:
        pytest.skip("this kernel has no UDP segmentation on TUN devices (Linux 6.2)")
    with nets[0]:
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with nets[1]:
        receiver = socket.socket(family, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.bind((host, 7000))
        receiver.settimeout(5)
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        sender.sendto(PAYLOAD[:30_500], (host, 7000))
        bridge = Bridge(devices[0], devices[1], seed=3, loss_ratio=loss_ratio)
        while not bridge.super_packets:
            bridge.carry()
        datagrams = [PAYLOAD[at : min(at + 1000, 30_500)] for at in range(0, 30_500, 1000)]
        kept = random.Random(3)
        for datagram in datagrams:
            if kept.random() >= loss_ratio:
                assert receiver.recv(2000) == datagram
    with nets[1]:
        assert nets[1].counter("Udp", "InCsumErrors") == 0
    for device in devices:
        device.close()


def refused_super_packet(device: Tun) -> bytes:
    """Return a UDP super-packet to 10.7.0.1, sound but for the ECN bit, for which Linux refuses it."""
    l4_bytes = 8 + 2500
    udp = struct.pack(">HHHH", 5000, 7000, l4_bytes, 0)
    addresses = socket.inet_aton("10.7.0.9") + socket.inet_aton("10.7.0.1")
    seed = sum(struct.unpack(">6H", addresses + struct.pack(">HH", 17, l4_bytes))) % 0xFFFF
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + l4_bytes, 1, 0x4000, 64, 17, 0) + addresses
    ip = ip[:10] + struct.pack("<H", vnet.checksum(ip)) + ip[12:]
    head = vnet.VnetHeader(vnet.NEEDS_CSUM, vnet.GSO_UDP | vnet.GSO_ECN, 28, 1000, 20, 6)
    return head.pack() + ip + udp[:6] + struct.pack(">H", seed) + PAYLOAD[:2500]


def test_refused_super_packets_go_out_as_packets_and_then_none_is_tried(net: OwnNet) -> None:
    device = opened(net, 1)
    sound = bytes(10) + b"\x45" + bytes(39)
    frame = refused_super_packet(device)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("10.7.0.1", 7000))
        receiver.settimeout(5)
        for _ in range(5):
            device.write_burst([[frame[:38], frame[38:]]])
            assert b"".join(receiver.recv(2000) for _ in range(3)) == PAYLOAD[:2500]
    assert device.counters.gso_refused == tun.REFUSALS == 3
    device.write_burst([[sound]])
    assert (device.counters.split_frames, device.counters.written_frames) == (5, 6)
    (fallback,) = device.describe()["fallbacks"]
    assert fallback.startswith("UDP super-packets are split")
    device.close()


def test_malformed_super_packets_do_not_speak_against_the_kernel(net: OwnNet) -> None:
    device = opened(net, 1)
    header = vnet.VnetHeader(vnet.NEEDS_CSUM, vnet.GSO_TCPV4, 2000, 1000, 20, 16)  # headers longer than the frame
    for _ in range(5):
        device.write_burst([[header.pack() + bytes(40)]])
    assert (device.counters.dropped_malformed, device.counters.gso_refused) == (5, 0)
    assert device.describe()["fallbacks"] == []
    device.close()


def test_drops_are_counted_by_cause(net: OwnNet) -> None:
    device = opened(net, 1)
    packet = bytes(10) + b"\x45" + bytes(39)
    device.write_burst([[bytes(10) + b"\x15" + bytes(39)]])
    net.ip(f"link set {device.info.name} down")
    device.write_burst([[packet], [packet]])
    net.ip(f"link del {device.info.name}")
    device.write_burst([[packet]])
    counters = device.counters
    assert counters.dropped_refused == 1
    assert counters.dropped_interface_down == 2
    assert counters.dropped_device_gone == 1
    assert counters.written_frames == 0
    with pytest.raises(SystemFailure, match="deleted"):
        device.read_burst(1, 1)
    device.close()


def test_plain_device_counts_malformed_frames(net: OwnNet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLVPN_NO_OFFLOAD", "1")
    device = opened(net, 1)
    device.write_burst([[vnet.VnetHeader(1, 0, 0, 0, 9000, 16).pack() + bytes(40)]])
    assert device.counters.dropped_malformed == 1
    device.close()


def test_read_burst_keeps_to_its_budgets(net: OwnNet) -> None:
    device = opened(net, 1)
    while device.read_burst(64, 1 << 20):  # what the kernel says by itself when an interface comes up
        pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(10):
            sender.sendto(bytes(1000), ("10.7.0.9", 9))
    assert len(device.read_burst(4, 1 << 20)) == 4
    assert len(device.read_burst(64, 1500)) == 2
    assert len(device.read_burst(64, 1 << 20)) == 4
    assert device.read_burst(64, 1 << 20) == []
    device.close()
