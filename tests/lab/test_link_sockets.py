"""Link sockets and netlink events over real interfaces.

    [a] wire0 10.8.0.1 ---- 10.8.0.2 wire0 [b] wire1 10.9.0.2 ---- 10.9.0.3 wire1 [c]

Most tests use a and b; b forwards to c where a path is narrower than its first interface.
"""

from __future__ import annotations

import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_net import OwnNet, join

from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.errors import LinkError
from mlvpn.lab.offload import finished_packets_only
from mlvpn.system.netlink import AddressGone, AddressNew, LinkState, Netlink, NetlinkEvent
from mlvpn.system.udp import LinkSocket, SendFailed, TooBig, open_link_socket

pytestmark = pytest.mark.root

A, B, C = ("10.8.0.1", 7000), ("10.8.0.2", 7000), ("10.9.0.3", 7000)
A6, B6 = ("fd08::1", 7000, 0, 0), ("fd08::2", 7000, 0, 0)


@pytest.fixture
def nets() -> Iterator[tuple[OwnNet, OwnNet]]:
    pair = (OwnNet(), OwnNet())
    join(*pair)
    for net, number in zip(pair, (1, 2), strict=True):
        with net:
            net.ip(f"addr add 10.8.0.{number}/24 dev wire0")
            net.ip(f"addr add fd08::{number}/64 dev wire0 nodad")
    yield pair
    for net in pair:
        net.close()


def opened(
    net: OwnNet, address: tuple[str, int], remote: tuple[str, int] | None = None, interface: str = ""
) -> LinkSocket:
    with net:
        return LinkSocket(open_link_socket(address[0], address[1], interface), "dsl", remote)


def train(count: int, size: int = 1400, destination: tuple[str, int] | None = None) -> Train:
    return Train("dsl", destination, b"".join(bytes([i]) * size for i in range(count)), size)


def receive(receiver: LinkSocket, count: int) -> list[ReceivedTrain]:
    trains: list[ReceivedTrain] = []
    while sum(-(-len(one.data) // one.datagram_bytes) for one in trains) < count:
        assert select.select([receiver], [], [], 5)[0], f"{len(trains)} trains is all that came"
        trains += receiver.receive_burst(64)
    return trains


@pytest.mark.parametrize("forced", ["", "MLVPN_NO_GSO", "MLVPN_NO_GRO"])
@pytest.mark.parametrize("offloads", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_trains_over_a_wire(
    nets: tuple[OwnNet, OwnNet], monkeypatch: pytest.MonkeyPatch, forced: str, offloads: bool, version: int
) -> None:
    """A wire without offloads is where Linux before 6.11 answers EIO: the train must arrive all the same."""
    if forced:
        monkeypatch.setenv(forced, "1")
    if not offloads:
        for net in nets:
            with net:
                finished_packets_only("wire0")
    ours, theirs = ((A[0], 7000), (B[0], 7000)) if version == 4 else ((A6[0], 7000), (B6[0], 7000))
    sender, receiver = opened(nets[0], ours, theirs), opened(nets[1], theirs)
    for _ in range(3):
        assert sender.send_burst([train(40)]) == []
    trains = receive(receiver, 120)
    assert b"".join(one.data for one in trains) == train(40).data * 3
    if offloads and not forced:
        assert receiver.counters.received_trains == 3, "one call out, one call in"
    if forced == "MLVPN_NO_GRO":
        assert receiver.counters.received_trains == 120
    assert sender.counters.gso_refused <= 1
    sender.close()
    receiver.close()


@pytest.mark.parametrize(("count", "size"), [(1, 1373), (20, 1373), (20, 1472)])
def test_interface_mtu_is_reported(nets: tuple[OwnNet, OwnNet], count: int, size: int) -> None:
    sender, receiver = opened(nets[0], A, B), opened(nets[1], B)
    with nets[0]:
        nets[0].ip("link set wire0 mtu 1400")
        assert sender.send_burst([train(count, size)]) == [TooBig("dsl", 1400)]
    assert sender.gso_off_because == ""
    assert sender.send_burst([train(count, 1372)]) == []
    assert len(receive(receiver, count)) >= 1
    sender.close()
    receiver.close()


def test_unconnected_socket_learns_the_mtu_too(nets: tuple[OwnNet, OwnNet]) -> None:
    sender = opened(nets[0], A, interface="wire0")
    with nets[0]:
        nets[0].ip("link set wire0 mtu 1300")
        assert sender.send_burst([train(1, destination=B)]) == [TooBig("dsl", 1300)]
    sender.close()


def test_narrow_path_is_learned_from_icmp(nets: tuple[OwnNet, OwnNet]) -> None:
    far = OwnNet()
    join(nets[1], far, "wire1")
    with nets[1]:
        nets[1].ip("addr add 10.9.0.2/24 dev wire1")
        nets[1].ip("link set wire1 mtu 1300")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    with far:
        far.ip("addr add 10.9.0.3/24 dev wire1")
        far.ip("route add default via 10.9.0.2")
    with nets[0]:
        nets[0].ip("route add default via 10.8.0.2")
        sender, receiver = opened(nets[0], A, C), opened(far, C)
        assert sender.send_burst([train(1, 1400)]) == []
        assert select.select([sender], [], [], 5)[0]  # the ICMP message: an error to read
        assert sender.send_burst([train(1, 100)]) == [TooBig("dsl", 1300)]
    assert (sender.counters.icmp_errors, sender.counters.dropped_too_big) == (1, 0)
    assert [len(one.data) for one in receive(receiver, 1)] == [100]
    sender.close()
    receiver.close()
    far.close()


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("bound_to", ["", "wire0"])
@pytest.mark.parametrize("command", ["link set wire0 down", "link del wire0", "addr del 10.8.0.1/24 dev wire0"])
def test_lost_interface_or_address_is_a_failure_of_the_link(
    nets: tuple[OwnNet, OwnNet], command: str, bound_to: str, count: int
) -> None:
    sender = opened(nets[0], A, B, bound_to)
    with nets[0]:
        nets[0].ip("addr add 10.8.0.9/16 dev wire0")  # a route is left when the address goes
        nets[0].ip(command)
        assert sender.send_burst([train(count)]) == [SendFailed("dsl", "no route to the peer")]
    assert sender.gso_off_because == ""
    assert sender.counters.dropped_unreachable == 1
    sender.close()


def test_interface_binding_decides_the_way(nets: tuple[OwnNet, OwnNet]) -> None:
    """Two wires to one address: the routing table names wire0, the binding wins."""
    join(*nets, "wire1")
    receivers = {wire: opened(nets[1], B, interface=wire) for wire in ("wire0", "wire1")}
    for interface, way in (("", "wire0"), ("wire0", "wire0"), ("wire1", "wire1")):
        sender = opened(nets[0], ("", 0), interface=interface)
        assert sender.send_burst([train(1, destination=B)]) == []
        assert len(receive(receivers[way], 1)) == 1
        sender.close()
    for receiver in receivers.values():
        receiver.close()


def test_missing_interface_says_so(nets: tuple[OwnNet, OwnNet]) -> None:
    with pytest.raises(LinkError, match="no such interface"):
        opened(nets[0], A, interface="wire9")


# ---- netlink


def events_until(netlink: Netlink, wanted: NetlinkEvent) -> list[NetlinkEvent]:
    """Read events until the wanted one is among them."""
    events: list[NetlinkEvent] = []
    while wanted not in events:
        assert select.select([netlink], [], [], 5)[0], f"{events} is all that happened"
        events += netlink.read_events()
    return events


def test_events_of_a_wire(nets: tuple[OwnNet, OwnNet]) -> None:
    with nets[0]:
        netlink = Netlink()
        ifindex = socket.if_nametoindex("wire0")
        there = LinkState(ifindex, "wire0", up=True, carrier=True)
        first = events_until(netlink, AddressNew(ifindex, "fd08::1"))
        assert {there, AddressNew(ifindex, "10.8.0.1")} <= set(first)
        with nets[1]:
            nets[1].ip("link set wire0 down")
        events_until(netlink, LinkState(ifindex, "wire0", up=True, carrier=False))
        with nets[1]:
            nets[1].ip("link set wire0 up")
        events_until(netlink, there)
        nets[0].ip("addr del 10.8.0.1/24 dev wire0")
        events_until(netlink, AddressGone(ifindex, "10.8.0.1"))
        nets[0].ip("link set wire0 down")
        events_until(netlink, LinkState(ifindex, "wire0", up=False, carrier=False))
        nets[0].ip("link del wire0")
        events_until(netlink, LinkState(ifindex, "wire0", up=False, carrier=False))
        netlink.close()


def test_lost_messages_bring_the_state_again(nets: tuple[OwnNet, OwnNet]) -> None:
    """Let the kernel's messages overflow the socket: all state is read anew."""
    with nets[0]:
        netlink = Netlink()
        ifindex = socket.if_nametoindex("wire0")
        events_until(netlink, AddressNew(ifindex, "fd08::1"))
        netlink._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        changes = "".join(f"link set wire0 mtu {1300 + i}\n" for i in range(20))
        subprocess.run(["ip", "-batch", "-"], input=changes, text=True, check=True)
        events_until(netlink, AddressNew(ifindex, "fd08::1"))
        netlink.close()
