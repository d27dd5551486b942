"""A host with several addresses answers from the one it was written to. Loopback has many: all of 127.0.0.0/8."""

from __future__ import annotations

import select
import socket

import pytest

from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.events import Address
from mlvpn.system import own_address
from mlvpn.system.own_address import OwnAddresses
from mlvpn.system.udp import LinkSocket, open_link_socket

pytestmark = pytest.mark.usefixtures("reader")


def opened(host: str = "", family: int = socket.AF_UNSPEC, remote: Address | None = None) -> LinkSocket:
    return LinkSocket(open_link_socket(host, 0, family=family), "dsl", remote)


def train(destination: Address | None, count: int) -> Train:
    return Train("dsl", destination, b"".join(bytes([i]) * 1000 for i in range(count)), 1000)


def receive(link_socket: LinkSocket, size_bytes: int) -> list[ReceivedTrain]:
    trains: list[ReceivedTrain] = []
    while sum(len(one.data) for one in trains) < size_bytes:
        assert select.select([link_socket], [], [], 5)[0], f"{len(trains)} trains is all that came"
        trains += link_socket.receive_burst(64)
    return trains


@pytest.mark.parametrize("family", [socket.AF_UNSPEC, socket.AF_INET], ids=["dual stack", "IPv4"])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_each_client_is_answered_from_where_it_wrote_to(family: int, count: int) -> None:
    """A connected socket hears nobody but the address it is connected to: what it gets came from there."""
    server = opened(family=family)
    port = server.local[1]
    clients = [opened("127.0.0.1", remote=(f"127.0.0.{last}", port)) for last in (1, 2, 3)]
    for client in clients:
        client.send_burst([train(None, count)])
    sources = {heard.source for heard in receive(server, len(clients) * count * 1000)}
    assert len(sources) == 3
    for source in sources:
        assert server.send_burst([train(source, count)]) == []
    for client in clients:
        assert b"".join(one.data for one in receive(client, count * 1000)) == train(None, count).data
    for link_socket in (server, *clients):
        link_socket.close()


def test_ipv6_on_a_socket_bound_to_no_address() -> None:
    server = opened("::")
    client = opened("::1", remote=("::1", server.local[1]))
    client.send_burst([train(None, 2)])
    (heard,) = receive(server, 2000)[:1]
    assert server.send_burst([train(heard.source, 2)]) == []
    assert len(receive(client, 2000)) >= 1
    server.close()
    client.close()


def test_a_bound_socket_remembers_nobody() -> None:
    server, client = opened("127.0.0.1"), opened("127.0.0.1")
    client.send_burst([train(server.local, 1)])
    receive(server, 1000)
    assert len(server._own_addresses) == 0
    server.close()
    client.close()


def test_memory_is_bounded_and_keeps_who_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_address, "PEERS", 10)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        own = OwnAddresses(sock)
    arrival = (socket.IPPROTO_IP, 8, bytes((2, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 255)))
    departure = (socket.IPPROTO_IP, 8, bytes((0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0)))
    peer = ("192.0.2.1", 1)
    own.heard(peer, arrival)
    for port in range(100):
        own.heard(("198.51.100.1", port), arrival)
        assert own.answer(peer) == [departure]
    assert len(own) == 10
    assert own.answer(("198.51.100.1", 0)) == []


@pytest.mark.parametrize(("address", "keeps_interface"), [("fe80::1", True), ("2001:db8::1", False)])
def test_only_a_link_local_address_needs_its_interface(address: str, keeps_interface: bool) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        own = OwnAddresses(sock)
    packed = socket.inet_pton(socket.AF_INET6, address)
    peer = ("2001:db8::2", 1, 0, 0)
    own.heard(peer, (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed + b"\7\0\0\0"))
    interface = b"\7\0\0\0" if keeps_interface else bytes(4)
    assert own.answer(peer) == [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, packed + interface)]
