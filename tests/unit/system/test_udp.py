"""Trains over loopback sockets: whole, cut, forced into single datagrams, refused by a socket that plays the kernel."""

from __future__ import annotations

import errno
import json
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.events import Address
from mlvpn.errors import LinkError
from mlvpn.system.receive import LONG_BYTES, LONG_MESSAGES
from mlvpn.system.udp import MAX_SEGMENTS, LinkSocket, SendFailed, TooBig, open_link_socket

pytestmark = pytest.mark.usefixtures("reader")


@pytest.fixture(params=["gso gro", "gro", "gso", ""])
def offloads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test with every combination of offloads, missing ones forced off."""
    for name in ("gso", "gro"):
        monkeypatch.setenv(f"MLVPN_NO_{name.upper()}", "" if name in request.param else "1")
    return str(request.param)


def link_socket(host: str = "127.0.0.1", remote: Address | None = None) -> LinkSocket:
    return LinkSocket(open_link_socket(host, 0), "dsl", remote)


def receive(receiver: LinkSocket, count: int) -> list[ReceivedTrain]:
    """Receive until so many datagrams are there."""
    trains: list[ReceivedTrain] = []
    while sum(map(len, map(datagrams, trains))) < count:
        assert select.select([receiver], [], [], 5)[0], f"{trains} is all that came"
        trains += receiver.receive_burst(64)
    return trains


def datagrams(train: ReceivedTrain | Train) -> list[bytes]:
    return [train.data[i : i + train.datagram_bytes] for i in range(0, len(train.data), train.datagram_bytes)]


def train_to(address: Address | None, count: int, size: int = 1400, last: int | None = None) -> Train:
    data = b"".join(bytes([i % 256]) * size for i in range(count - 1)) + b"l" * (last or size)
    return Train("dsl", address, data, size)


@pytest.fixture
def pair() -> Iterator[tuple[LinkSocket, LinkSocket]]:
    receiver = link_socket()
    sender = link_socket(remote=receiver.local)
    yield sender, receiver
    sender.close()
    receiver.close()


@pytest.mark.parametrize("count", [1, 2, 40, 200])
def test_train_arrives_datagram_by_datagram(offloads: str, count: int) -> None:
    receiver, sender = link_socket(), link_socket()
    sent = train_to(receiver.local, count, last=77)
    assert sender.send_burst([sent]) == []
    trains = receive(receiver, count)
    assert [datagram for train in trains for datagram in datagrams(train)] == datagrams(sent)
    assert {(train.link, train.source) for train in trains} == {("dsl", sender.local)}
    if offloads == "gso gro" and count < 40:
        assert len(trains) == 1
    if "gro" not in offloads:
        assert len(trains) == count
    receiver.close()
    sender.close()


@pytest.mark.parametrize("host", ["::1", ""])
def test_ipv6_and_dual_stack(offloads: str, host: str) -> None:
    try:
        receiver = LinkSocket(open_link_socket(host, 0), "dsl")
        sender = link_socket("::1")
    except LinkError:
        pytest.skip("no IPv6 on this machine's loopback")
    sent = train_to(("::1", receiver.local[1], 0, 0), 30)
    assert sender.send_burst([sent]) == []
    trains = receive(receiver, 30)
    assert trains[0].source == sender.local
    assert receiver.send_burst([train_to(trains[0].source, 30)]) == []
    assert b"".join(train.data for train in receive(sender, 30)) == sent.data
    receiver.close()
    sender.close()


def test_dual_stack_socket_speaks_ipv4_with_plain_addresses(offloads: str) -> None:
    dual, ipv4 = LinkSocket(open_link_socket("", 0), "dsl"), link_socket()
    assert ipv4.send_burst([train_to(("127.0.0.1", dual.local[1]), 3)]) == []
    (source,) = {train.source for train in receive(dual, 3)}
    assert source == ipv4.local
    assert dual.send_burst([train_to(source, 3)]) == []
    assert len(receive(ipv4, 3)) >= 1
    dual.close()
    ipv4.close()


def test_connected_dual_stack_socket_knows_its_ipv4_address() -> None:
    receiver = link_socket()
    sender = LinkSocket(open_link_socket("", 0), "dsl", receiver.local)
    assert sender.local[0] == "127.0.0.1"
    assert sender.send_burst([train_to(None, 1)]) == []
    assert receive(receiver, 1)[0].source == sender.local
    sender.close()
    receiver.close()


def test_connected_socket_needs_no_destination_and_hears_nobody_else(pair: tuple[LinkSocket, LinkSocket]) -> None:
    sender, receiver = pair
    stranger = link_socket()
    stranger.send_burst([train_to(sender.local, 1)])
    sender.send_burst([train_to(None, 2), train_to(receiver.local, 1)])
    assert {train.source for train in receive(receiver, 3)} == {sender.local}
    assert sender.receive_burst(9) == []
    stranger.close()


def test_arrival_is_when_the_kernel_had_it(pair: tuple[LinkSocket, LinkSocket]) -> None:
    sender, receiver = pair
    before_ns = time.monotonic_ns()
    sender.send_burst([train_to(None, 1)])
    after_ns = time.monotonic_ns()
    select.select([receiver], [], [], 0.05)
    while time.monotonic_ns() < after_ns + 20_000_000:  # read late: the time of reading must not count
        pass
    (train,) = receiver.receive_burst(9)
    slack_ns = 5_000_000
    assert before_ns - slack_ns < train.arrival_ns < after_ns + slack_ns


def test_burst_budget_leaves_the_rest_for_the_next_call(pair: tuple[LinkSocket, LinkSocket]) -> None:
    sender, receiver = pair
    sender.send_burst([train_to(None, 1) for _ in range(10)])
    received = [sum(len(train.data) // train.datagram_bytes for train in receiver.receive_burst(6)) for _ in range(3)]
    assert received == [6, 4, 0]


def test_of_long_trains_one_call_takes_few(pair: tuple[LinkSocket, LinkSocket]) -> None:
    sender, receiver = pair
    count = 2 * LONG_BYTES // 1400
    for trains in (1, LONG_MESSAGES + 2):
        sender.send_burst([train_to(None, count)] * trains)
        select.select([receiver], [], [], 5)
        receiver.receive_burst(64, max_bytes=1)
    expected = {"c": LONG_MESSAGES, "python": 1}[receiver.describe()["reader"]]
    assert receiver.counters.received_trains == 1 + expected


def test_empty_datagram_is_counted_and_gone(pair: tuple[LinkSocket, LinkSocket]) -> None:
    sender, receiver = pair
    socket.socket.send(sender._sock, b"")
    sender.send_burst([train_to(None, 1)])
    assert len(receive(receiver, 1)) == 1
    assert receiver.counters.dropped_empty == 1


def test_port_closed_at_the_peer_costs_nothing_but_a_counter() -> None:
    gone = link_socket()
    sender = link_socket(remote=gone.local)
    gone.close()
    for _ in range(5):
        assert sender.send_burst([train_to(None, 1)]) == []
    assert sender.counters.icmp_errors > 0
    assert sender.receive_burst(9) == []
    sender.close()


def test_datagram_larger_than_an_ip_packet_is_too_big(offloads: str, pair: tuple[LinkSocket, LinkSocket]) -> None:
    assert pair[0].send_burst([train_to(None, 2, size=65_520)]) == [TooBig("dsl", 65_535)]
    assert pair[0].counters.dropped_too_big == 2


class Refusing(socket.socket):
    """A socket that plays a kernel with a will of its own: ``refuse[method]`` is the errnos of the next calls."""

    refuse: dict[str, list[int]]

    def _maybe(self, method: str) -> None:
        if self.refuse.get(method):
            raise OSError(self.refuse[method].pop(0), "refused")

    def sendmsg(self, *arguments: Any) -> int:
        self._maybe("sendmsg")
        return super().sendmsg(*arguments)

    def send(self, *arguments: Any) -> int:
        self._maybe("send")
        return super().send(*arguments)


@pytest.fixture
def refusing() -> Iterator[tuple[LinkSocket, LinkSocket, dict[str, list[int]]]]:
    receiver = link_socket()
    sock = Refusing(fileno=open_link_socket("127.0.0.1", 0).detach())
    sock.refuse = {}
    sender = LinkSocket(sock, "dsl", receiver.local)
    yield sender, receiver, sock.refuse
    sender.close()
    receiver.close()


RefusingPair = tuple[LinkSocket, LinkSocket, dict[str, list[int]]]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL])
def test_refused_train_goes_out_singly_and_segmentation_stays_off(refusing: RefusingPair, number: int) -> None:
    sender, receiver, refuse = refusing
    refuse["sendmsg"] = [number] * 9
    assert sender.send_burst([train_to(None, 5), train_to(None, 5)]) == []
    assert len(receive(receiver, 10)) == 10
    assert refuse["sendmsg"] == [number] * 7, "the first train was tried twice, the second not at all"
    assert sender.counters.gso_refused == 1
    assert "refused" in json.loads(json.dumps(sender.describe()))["gso_off_because"]


def test_error_of_an_earlier_datagram_does_not_end_segmentation(refusing: RefusingPair) -> None:
    sender, receiver, refuse = refusing
    refuse["sendmsg"] = [errno.EHOSTUNREACH]
    assert sender.send_burst([train_to(None, 5)]) == []
    receive(receiver, 5)
    assert (sender.counters.icmp_errors, sender.gso_off_because) == (1, "")


def test_lost_address_is_no_reason_to_end_segmentation(refusing: RefusingPair) -> None:
    """EINVAL says both; where single datagrams fail too it was the address."""
    sender, _, refuse = refusing
    refuse["sendmsg"] = [errno.EINVAL] * 2
    refuse["send"] = [errno.EINVAL] * 10
    assert sender.send_burst([train_to(None, 5)]) == [SendFailed("dsl", "the link's own address is gone")]
    assert sender.gso_off_because == ""


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOBUFS])
def test_full_buffer_drops_and_counts(refusing: RefusingPair, number: int) -> None:
    sender, _, refuse = refusing
    refuse["sendmsg"] = refuse["send"] = [number] * 2
    assert sender.send_burst([train_to(None, 5), train_to(None, 1)]) == []
    assert sender.counters.link_send_buffer_full == 2


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENETUNREACH, "no route"), (errno.EPERM, "firewall"), (errno.ENODEV, "gone"), (errno.EADDRNOTAVAIL, "gone")],
)
def test_dead_ends_are_reported_once(refusing: RefusingPair, number: int, reason: str) -> None:
    sender, _, refuse = refusing
    refuse["send"] = [number] * 6
    (problem,) = sender.send_burst([train_to(None, 1)] * 3)
    assert isinstance(problem, SendFailed)
    assert reason in problem.reason
    assert sender.counters.dropped_unreachable == 3


def test_old_kernel_without_udp_offloads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(socket.socket):
        def setsockopt(self, level: int, option: int, *value: Any) -> None:
            if level == 17:
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")
            super().setsockopt(level, option, *value)

    receiver = link_socket()
    sender = LinkSocket(Old(fileno=open_link_socket("127.0.0.1", 0).detach()), "dsl", receiver.local)
    assert sender.gso_off_because == sender.gro_off_because == "this kernel does not have it"
    sender.send_burst([train_to(None, 3)])
    assert b"".join(t.data for t in receive(receiver, 3)) == train_to(None, 3).data
    sender.close()
    receiver.close()


@pytest.mark.parametrize(
    ("host", "port", "interface", "text"),
    [("192.0.2.1", 0, "", "no interface has this address"), ("127.0.0.1", 0, "nonesuch0", "no such interface")],
)
def test_refused_binding_says_why(host: str, port: int, interface: str, text: str) -> None:
    with pytest.raises(LinkError, match=text):
        open_link_socket(host, port, interface)


def test_port_in_use_says_so() -> None:
    holder = link_socket()
    with pytest.raises(LinkError, match="choose another bindport"):
        open_link_socket("127.0.0.1", holder.local[1])
    holder.close()


def test_unreachable_remote_is_a_link_error() -> None:
    with pytest.raises(LinkError, match=r"no way to 192\.0\.2\.1"):
        link_socket("127.0.0.1", remote=("192.0.2.1", 9))


@given(st.integers(1, 3000), st.integers(1, 150), st.data())
def test_any_train_arrives_unchanged(size: int, count: int, data: st.DataObject) -> None:
    receiver = link_socket()
    sender = link_socket(remote=receiver.local)
    sent = train_to(None, count, size, last=data.draw(st.integers(1, size)))
    assert sender.send_burst([sent]) == []
    got = receive(receiver, count)
    assert [d for train in got for d in datagrams(train)] == datagrams(sent)
    assert all(len(datagrams(train)) <= MAX_SEGMENTS for train in got)
    sender.close()
    receiver.close()
