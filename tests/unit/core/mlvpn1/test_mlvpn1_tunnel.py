"""Two cores in memory, and hand-made datagrams against one."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator

import pytest

from memory import kept_blocks
from mlvpn.config import Config, parse
from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.events import Event, LinkDown, LinkUp, Log, SocketWanted
from mlvpn.core.mlvpn1 import Mlvpn1Tunnel
from mlvpn.wire import mlvpn1
from mlvpn.wire.mlvpn1 import CONTROL_BODIES, Header, PacketType
from mlvpn.wire.vnet import NO_OFFLOAD

SECOND = 1_000_000_000
MS = 1_000_000
PASSWORD = b"a shared password"
KEY = mlvpn1.password_key(PASSWORD)
SERVER = {"a": ("192.0.2.2", 5081), "b": ("198.51.100.2", 5082)}
CLIENT = {"a": ("192.0.2.1", 40001), "b": ("198.51.100.1", 40002)}


def configured(mode: str, general: str = "", link_a: str = "", link_b: str = "", password: bytes = PASSWORD) -> Config:
    sections = []
    for name, extra in (("a", link_a), ("b", link_b)):
        host, port = SERVER[name]
        where = f"bindport = {port}" if mode == "server" else f'remotehost = "{host}"\nremoteport = {port}'
        sections.append(f"[{name}]\n{where}\n{extra}\n")
    head = (
        f'[general]\nmode = "{mode}"\nprotocol = "mlvpn1"\npassword = "{password.decode()}"\ntimeout = 10\n{general}\n'
    )
    return parse(head + "".join(sections), "test.conf")


def tunnel(
    mode: str,
    general: str = "",
    link_a: str = "",
    link_b: str = "",
    *,
    seed: int = 1,
    now_ns: int = 0,
    password: bytes = PASSWORD,
) -> Mlvpn1Tunnel:
    core = Mlvpn1Tunnel(
        configured(mode, general, link_a, link_b, password), now_ns, random.Random(f"{mode}{seed}").randbytes
    )
    own, peer = (SERVER, CLIENT) if mode == "server" else (CLIENT, SERVER)
    for name in own:
        core.socket_opened(name, own[name], None if mode == "server" else peer[name], now_ns)
    return core


def arrived(train: Train, source: tuple[str, int], now_ns: int) -> ReceivedTrain:
    return ReceivedTrain(train.link, source, train.data, train.datagram_bytes, now_ns)


class Pair:
    """A client and a server that hear each other unless a link is cut; every datagram takes ``delay_ns``."""

    def __init__(self, client: Mlvpn1Tunnel, server: Mlvpn1Tunnel, now_ns: int = 0, delay_ns: int = 5 * MS) -> None:
        self.ends = {"client": client, "server": server}
        self.now_ns, self.delay_ns = now_ns, delay_ns
        self.cut: set[str] = set()
        self.events: dict[str, list[Event]] = {"client": [], "server": []}
        self.received: dict[str, list[bytes]] = {"client": [], "server": []}
        self.sent: list[tuple[str, Train]] = []
        self._flying: list[tuple[int, str, ReceivedTrain]] = []

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + int(seconds * SECOND)
        while True:
            self._take()
            deadlines = [core.next_deadline_ns() for core in self.ends.values()] + [due for due, _, _ in self._flying]
            due_ns = min(deadline for deadline in deadlines if deadline is not None)
            if due_ns > end_ns:
                break
            self.now_ns = max(due_ns, self.now_ns)
            for core in self.ends.values():
                core.tick(self.now_ns)
            ready = [flight for flight in self._flying if flight[0] <= self.now_ns]
            self._flying = [flight for flight in self._flying if flight[0] > self.now_ns]
            for _, end, train in ready:
                self.ends[end].receive(train, self.now_ns)
        self.now_ns = end_ns

    def submit(self, end: str, *packets: bytes) -> None:
        self.ends[end].submit([NO_OFFLOAD + packet for packet in packets], self.now_ns)
        self._take()

    def up(self, end: str) -> list[str]:
        return [link["name"] for link in self.ends[end].snapshot(self.now_ns)["links"] if link["state"] == "up"]

    def _take(self) -> None:
        for end, core in self.ends.items():
            other = "server" if end == "client" else "client"
            for train in core.take_sends(0):
                self.sent.append((end, train))
                assert (train.destination is None) == (end == "client")
                if train.link not in self.cut:
                    source = (CLIENT if end == "client" else SERVER)[train.link]
                    self._flying.append(
                        (self.now_ns + self.delay_ns, other, arrived(train, source, self.now_ns + self.delay_ns))
                    )
            self.received[end] += [b"".join(buffers)[len(NO_OFFLOAD) :] for buffers in core.take_deliveries()]
            self.events[end] += core.take_events()


def pair(general: str = "", link_a: str = "", link_b: str = "") -> Pair:
    made = Pair(tunnel("client", general, link_a, link_b), tunnel("server", general, link_a, link_b))
    made.run(0.5)
    return made


def links_of(events: list[Event], kind: type[Event]) -> list[str]:
    return [event.link for event in events if isinstance(event, kind) and not isinstance(event, Log)]


def datagram(
    kind: PacketType,
    seq: int,
    flow_id: int = 77,
    body: bytes | None = None,
    data_seq: int = 0,
    version: int = 1,
    key: bytes = KEY,
) -> bytes:
    sealed = mlvpn1.seal(CONTROL_BODIES[kind] if body is None else body, flow_id, seq, key)
    return (
        mlvpn1.pack(Header(len(sealed), version, kind, True, 1, mlvpn1.NO_TIMESTAMP, flow_id, seq, data_seq)) + sealed
    )


def give(core: Mlvpn1Tunnel, data: bytes, now_ns: int, link: str = "a", source: tuple[str, int] | None = None) -> None:
    core.receive(ReceivedTrain(link, source or CLIENT[link], data, len(data), now_ns), now_ns)


def headers(trains: list[Train]) -> Iterator[tuple[str, Header, bytes]]:
    for train in trains:
        for start in range(0, len(train.data), train.datagram_bytes):
            end = min(start + train.datagram_bytes, len(train.data))
            yield train.link, mlvpn1.unpack(train.data, start, end), train.data[start + mlvpn1.HEADER_BYTES : end]


def types(core: Mlvpn1Tunnel) -> list[tuple[str, str]]:
    return [(link, PacketType(header.type).name) for link, header, _ in headers(core.take_sends(0))]


def packets(count: int, size: int = 400) -> list[bytes]:
    return [b"\x45" + bytes([index % 256]) * (size - 1) for index in range(count)]


# Connecting, staying, ending.


@pytest.mark.parametrize("cleartext", [0, 1])
def test_both_ends_come_up_and_carry_packets_both_ways(cleartext: int) -> None:
    both = pair(f"cleartext_data = {cleartext}\nreorder_buffer_size = 64")
    assert links_of(both.events["client"], LinkUp) == ["a", "b"]
    assert links_of(both.events["server"], LinkUp) == ["a", "b"]
    there, back = packets(200), packets(100, 900)
    both.submit("client", *there)
    both.submit("server", *back)
    both.run(1)
    assert both.received == {"server": there, "client": back}
    clear = any(there[3] in train.data for _, train in both.sent)
    assert clear == bool(cleartext)


def test_keepalives_go_about_once_a_second_and_keep_the_links_up() -> None:
    both = pair()
    both.sent.clear()
    both.run(60)
    keepalives = [
        header for _, header, _ in headers([train for end, train in both.sent if end == "client" and train.link == "a"])
    ]
    assert {header.type for header in keepalives} == {PacketType.KEEPALIVE}
    assert 60 <= len(keepalives) <= 125  # one by the clock, one in answer
    assert both.up("client") == both.up("server") == ["a", "b"]


def test_the_round_trip_is_measured_by_timestamps() -> None:
    both = Pair(tunnel("client"), tunnel("server"), delay_ns=40 * MS)
    both.run(30)
    for core in both.ends.values():
        for link in core.snapshot(both.now_ns)["links"]:
            assert link["rtt_ms"] == pytest.approx(80, abs=2)


def test_a_cut_link_leaves_the_rotation_at_once_and_goes_down_at_its_timeout() -> None:
    both = pair()
    both.run(5)
    both.cut.add("a")
    both.run(5.5)  # of a timeout of 10 s
    assert both.up("client") == ["a", "b"]
    both.sent.clear()
    both.submit("client", *packets(20))
    assert {train.link for _, train in both.sent} == {"b"}
    both.run(6.5)
    assert links_of(both.events["client"], LinkDown) == links_of(both.events["server"], LinkDown) == ["a"]
    assert "a" in links_of(both.events["client"], SocketWanted)
    both.cut.clear()
    both.run(3)
    assert both.up("client") == both.up("server") == ["a", "b"]


def test_closing_takes_the_other_end_down_at_once() -> None:
    both = pair()
    both.ends["client"].close(both.now_ns)
    both.run(0.1)
    assert links_of(both.events["server"], LinkDown) == ["a", "b"]


@pytest.mark.parametrize("end", ["client", "server"])
def test_an_end_that_was_killed_is_back_within_seconds(end: str) -> None:
    both = pair()
    both.run(20)
    both.ends[end] = tunnel(end, seed=2, now_ns=both.now_ns)
    both.run(6)
    for there, back in (("client", "server"), ("server", "client")):
        both.received[back].clear()
        both.submit(there, *packets(10))
        both.run(0.5)
        assert sorted(both.received[back]) == packets(10)


def test_a_wrong_password_connects_nothing_and_says_so_once_a_minute() -> None:
    both = Pair(tunnel("client"), tunnel("server", password=b"another one"))
    both.run(50)
    assert both.up("server") == both.up("client") == []
    warnings = [event.text for event in both.events["server"] if isinstance(event, Log) and "password" in event.text]
    assert len(warnings) == 2  # one for each link
    assert both.ends["server"].snapshot(both.now_ns)["drops"]["unauthentic_datagrams"] >= 100


def test_a_client_without_an_answer_asks_for_new_sockets() -> None:
    client = tunnel("client")
    for second in range(35):
        client.tick(second * SECOND)
    assert links_of(client.take_events(), SocketWanted).count("a") == 3


def test_a_lost_socket_takes_the_link_down_and_a_new_one_brings_it_back() -> None:
    both = pair()
    both.ends["client"].link_lost("a", "carrier lost", both.now_ns)
    both.run(2)
    assert both.events["client"][-1] == LinkDown("a", "carrier lost")
    both.ends["client"].socket_opened("a", CLIENT["a"], SERVER["a"], both.now_ns)
    both.run(1)
    assert both.up("client") == ["a", "b"]


# What must not be believed.


def test_a_replayed_datagram_is_counted_and_moves_nothing() -> None:
    both = pair()
    server = both.ends["server"]
    trains = [train for end, train in both.sent if end == "client" and train.link == "a"]
    before = server.snapshot(both.now_ns)
    for train in trains:
        give(server, train.data[: train.datagram_bytes], both.now_ns, source=("203.0.113.66", 666))
    after = server.snapshot(both.now_ns)
    assert after["drops"]["replayed_datagrams"] == before["drops"]["replayed_datagrams"] + len(trains)
    assert after["links"] == before["links"]
    server.submit([NO_OFFLOAD + packets(1)[0]] * 2, both.now_ns)
    assert {train.destination for train in server.take_sends(0)} == {CLIENT["a"], CLIENT["b"]}


def test_an_authentic_newer_datagram_from_elsewhere_moves_the_servers_peer() -> None:
    server = tunnel("server")
    give(server, datagram(PacketType.AUTH, 0), 0)
    give(server, datagram(PacketType.KEEPALIVE, 2), 1, source=("203.0.113.9", 9))
    assert server.snapshot(1)["links"][0]["remote"] == "203.0.113.9:9"
    give(server, datagram(PacketType.KEEPALIVE, 1), 2)  # fresh but older: overtaken on its way
    assert server.snapshot(2)["links"][0]["remote"] == "203.0.113.9:9"


def test_a_datagram_of_one_link_is_refused_on_another() -> None:
    server = tunnel("server")
    give(server, datagram(PacketType.AUTH, 0), 0, link="a")
    give(server, datagram(PacketType.AUTH, 1), 0, link="b")
    assert server.snapshot(0)["drops"]["replayed_datagrams"] == 1
    assert [link["state"] for link in server.snapshot(0)["links"]] == ["up", "down"]


def test_our_own_datagrams_sent_back_to_us_are_refused() -> None:
    client = tunnel("client")
    for train in client.take_sends(0):
        give(client, train.data, 0, link=train.link, source=SERVER[train.link])
    assert client.snapshot(0)["drops"]["reflected_datagrams"] == 2
    assert not any(isinstance(event, LinkUp) for event in client.take_events())


def test_another_start_of_the_peer_waits_until_the_present_one_is_silent() -> None:
    server = tunnel("server")
    give(server, datagram(PacketType.AUTH, 0, flow_id=1), 0)
    give(server, datagram(PacketType.AUTH, 0, flow_id=2), 1 * SECOND, source=("203.0.113.9", 9))
    assert server.snapshot(0)["drops"]["second_peer_datagrams"] == 1
    give(server, datagram(PacketType.AUTH, 1, flow_id=2), 3 * SECOND, source=("203.0.113.9", 9))
    assert server.snapshot(3 * SECOND)["links"][0]["remote"] == "203.0.113.9:9"
    give(server, datagram(PacketType.AUTH, 0, flow_id=1), 9 * SECOND)
    assert server.snapshot(9 * SECOND)["drops"]["replayed_datagrams"] == 1


def test_after_disconnect_only_auth_brings_a_link_back() -> None:
    server = tunnel("server")
    give(server, datagram(PacketType.AUTH, 0), 0)
    give(server, datagram(PacketType.DISCONNECT, 2), 0)
    give(server, datagram(PacketType.KEEPALIVE, 1), 0)
    give(server, datagram(PacketType.KEEPALIVE, 3), 0)
    assert server.snapshot(0)["links"][0]["state"] == "down"
    give(server, datagram(PacketType.AUTH, 4), 0)
    assert server.snapshot(0)["links"][0]["state"] == "up"


@pytest.mark.parametrize(
    ("kind", "body"),
    [(PacketType.AUTH, b"XX"), (PacketType.KEEPALIVE, b"AU"), (PacketType.DISCONNECT, b"x"), (9, b"AU")],
)
def test_a_body_that_does_not_belong_to_its_type_is_refused(kind: PacketType, body: bytes) -> None:
    server = tunnel("server")
    give(server, datagram(kind, 0, body=body), 0)
    assert server.snapshot(0)["drops"]["malformed_datagrams"] == 1
    assert server.snapshot(0)["links"][0]["state"] == "down"


def clear_data(seq: int, packet: bytes, flow_id: int = 77, data_seq: int = 0) -> bytes:
    header = Header(len(packet), 1, PacketType.DATA, True, 1, mlvpn1.NO_TIMESTAMP, flow_id, seq, data_seq)
    return mlvpn1.pack(header) + packet


def test_cleartext_data_is_taken_only_from_the_peers_flow_and_address_and_moves_nothing() -> None:
    server = tunnel("server", "cleartext_data = 1")
    packet = packets(1)[0]
    give(server, clear_data(1, packet), 0)
    give(server, datagram(PacketType.AUTH, 0), 0)
    give(server, clear_data(1, packet), 0, source=("203.0.113.9", 9))
    give(server, clear_data(1, packet, flow_id=78), 0)
    assert server.snapshot(0)["drops"]["foreign_clear_datagrams"] == 3
    give(server, clear_data(1, packet), 0)
    give(server, clear_data(1, packet), 0)
    assert server.snapshot(0)["drops"]["replayed_datagrams"] == 1
    assert server.snapshot(0)["links"][0]["remote"] == "192.0.2.1:40001"
    assert [b"".join(buffers)[len(NO_OFFLOAD) :] for buffers in server.take_deliveries()] == [packet]


def test_a_forged_cleartext_number_does_not_shut_out_what_follows() -> None:
    server = tunnel("server", "cleartext_data = 1")
    give(server, datagram(PacketType.AUTH, 0), 0)
    give(server, clear_data(2**63, packets(1)[0]), 0)
    give(server, datagram(PacketType.KEEPALIVE, 1), 0)
    give(server, clear_data(2, packets(1)[0]), 0)
    assert len(server.take_deliveries()) == 1


# Version 0 and packets without order.


def test_a_version_0_peer_is_served_without_order_or_loss() -> None:
    server = tunnel("server", "reorder_buffer_size = 64")
    give(server, datagram(PacketType.AUTH, 0, version=0), 0)
    assert types(server) == [("a", "AUTH_OK")]
    for seq, data_seq in ((5, 9), (3, 2), (40, 0)):
        give(server, datagram(PacketType.DATA, seq, body=packets(1)[0], data_seq=data_seq, version=0), 0)
    assert len(server.take_deliveries()) == 3
    assert server.snapshot(0)["links"][0]["loss_ratio"] == 0


def test_without_a_reorder_buffer_packets_are_delivered_as_they_come() -> None:
    server = tunnel("server")
    give(server, datagram(PacketType.AUTH, 0), 0)
    for seq in (3, 1, 2):
        give(server, datagram(PacketType.DATA, seq, body=packets(4)[seq], data_seq=seq), 0)
    assert [b"".join(buffers)[len(NO_OFFLOAD) :] for buffers in server.take_deliveries()] == [
        packets(4)[seq] for seq in (3, 1, 2)
    ]


def test_packets_of_two_links_are_put_in_order() -> None:
    server = tunnel("server", "reorder_buffer_size = 64")
    for link, flow_id in (("a", 1), ("b", 2)):
        give(server, datagram(PacketType.AUTH, 0, flow_id=flow_id), 0, link=link)
    sent = packets(6)
    for link, flow_id, seq, number in (
        ("a", 1, 1, 0),
        ("b", 2, 1, 1),
        ("a", 1, 2, 4),
        ("a", 1, 3, 5),
        ("b", 2, 2, 2),
        ("b", 2, 3, 3),
    ):
        give(server, datagram(PacketType.DATA, seq, flow_id=flow_id, body=sent[number], data_seq=number), 0, link=link)
    assert [b"".join(buffers)[len(NO_OFFLOAD) :] for buffers in server.take_deliveries()] == sent


def test_a_gap_that_no_link_proves_is_given_up_by_the_clock() -> None:
    server = tunnel("server", "reorder_buffer_size = 64")
    server.tick(0)
    for link, flow_id in (("a", 1), ("b", 2)):
        give(server, datagram(PacketType.AUTH, 0, flow_id=flow_id), 0, link=link)
        give(server, datagram(PacketType.DATA, 1, flow_id=flow_id, body=b"E", data_seq=flow_id - 1), 0, link=link)
    give(server, datagram(PacketType.DATA, 2, flow_id=1, body=b"F", data_seq=3), 0, link="a")
    server.take_deliveries()
    deadline_ns = server.next_deadline_ns()
    assert deadline_ns is not None and 0 < deadline_ns <= SECOND
    for _ in range(3):
        server.tick(server.next_deadline_ns() or 0)
    assert [b"".join(buffers)[len(NO_OFFLOAD) :] for buffers in server.take_deliveries()] == [b"F"]


# Choosing links and sizes.


def sent_by_link(core: Mlvpn1Tunnel, count: int, now_ns: int) -> dict[str, int]:
    core.take_sends(0)
    core.submit([NO_OFFLOAD + packet for packet in packets(count)], now_ns)
    totals = {"a": 0, "b": 0}
    for link, header, _ in headers(core.take_sends(0)):
        totals[link] += header.type == PacketType.DATA
    return totals


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("1000", "1000", 500), ("3000", "1000", 750), ("9000", "1000", 900), ("9000", "0", 500), ("0", "0", 500)],
)
def test_links_are_loaded_by_their_bandwidth_upload(a: str, b: str, expected: int) -> None:
    both = pair(link_a=f"bandwidth_upload = {a}", link_b=f"bandwidth_upload = {b}")
    assert sent_by_link(both.ends["client"], 1000, both.now_ns)["a"] == pytest.approx(expected, abs=15)


def test_a_fallback_link_is_used_only_when_no_other_is_up() -> None:
    both = pair(link_b="fallback_only = 1")
    assert sent_by_link(both.ends["client"], 10, both.now_ns) == {"a": 10, "b": 0}
    both.ends["client"].link_lost("a", "carrier lost", both.now_ns)
    assert sent_by_link(both.ends["client"], 10, both.now_ns) == {"a": 0, "b": 10}


def test_a_link_above_its_loss_tolerance_leaves_the_rotation_until_it_is_better() -> None:
    server = tunnel("server", link_a="loss_tolerence = 20")
    for link, flow_id in (("a", 1), ("b", 2)):
        give(server, datagram(PacketType.AUTH, 0, flow_id=flow_id), 0, link=link)
    for seq in range(2, 60, 2):
        give(server, datagram(PacketType.KEEPALIVE, seq, flow_id=1), 0, link="a")
    server.tick(SECOND)
    assert server.snapshot(SECOND)["links"][0]["state"] == "lossy"
    assert server.snapshot(SECOND)["links"][0]["loss_ratio"] == 29 / 64
    assert sent_by_link(server, 10, SECOND) == {"a": 0, "b": 10}
    for seq in range(59, 140):
        give(server, datagram(PacketType.KEEPALIVE, seq, flow_id=1), SECOND, link="a")
    server.tick(2 * SECOND)
    assert sent_by_link(server, 10, 2 * SECOND) == {"a": 5, "b": 5}
    assert not any(isinstance(event, LinkDown) for event in server.take_events())


def test_lossy_links_are_used_when_there_is_nothing_better() -> None:
    server = tunnel("server", "loss_tolerence = 20")
    give(server, datagram(PacketType.AUTH, 0), 0)
    for seq in range(2, 60, 2):
        give(server, datagram(PacketType.KEEPALIVE, seq), 0)
    server.tick(SECOND)
    assert sent_by_link(server, 10, SECOND) == {"a": 10, "b": 0}


def test_a_link_above_its_latency_tolerance_is_slow() -> None:
    both = Pair(tunnel("client", link_a="latency_tolerence = 150"), tunnel("server"), delay_ns=90 * MS)
    both.run(10)
    assert both.up("client") == ["b"]
    assert both.ends["client"].snapshot(both.now_ns)["links"][0]["state"] == "slow"
    assert sent_by_link(both.ends["client"], 10, both.now_ns) == {"a": 0, "b": 10}


def test_a_filter_chooses_the_link_while_it_is_up() -> None:
    both = pair()
    client = both.ends["client"]
    client.set_filters(lambda packet: ["gone", "b"] if packet[1] == 7 else [])
    client.take_sends(0)
    client.submit([NO_OFFLOAD + packets(8)[7]] * 6, both.now_ns)
    assert {link for link, _, _ in headers(client.take_sends(0))} == {"b"}
    client.link_lost("b", "carrier lost", both.now_ns)
    client.submit([NO_OFFLOAD + packets(8)[7]] * 6, both.now_ns)
    assert {link for link, _, _ in headers(client.take_sends(0))} == {"a"}
    assert client.snapshot(both.now_ns)["counters"]["filtered_packets"] == 6


def test_packets_without_any_link_are_counted() -> None:
    client = tunnel("client")
    client.submit([NO_OFFLOAD + packets(1)[0]] * 3, 0)
    client.take_sends(0)
    assert client.snapshot(0)["drops"]["no_link_packets"] == 3


@pytest.mark.parametrize(("cleartext", "limit"), [(0, 1456), (1, 1500)])
def test_a_packet_is_carried_whole_or_not_at_all(cleartext: int, limit: int) -> None:
    both = pair(f"cleartext_data = {cleartext}")
    for size in (limit - 1, limit, limit + 1, 9000):
        both.submit("client", packets(1, size)[0])
    both.run(0.1)
    assert [len(packet) for packet in both.received["server"]] == [limit - 1, limit]
    drops = both.ends["client"].snapshot(both.now_ns)["drops"]
    assert drops["too_big_packets"] == 2


@pytest.mark.parametrize("size", [1429, 1500])
def test_the_sender_of_a_packet_that_is_too_big_is_told_once_in_a_while(size: int) -> None:
    both = pair()
    client = both.ends["client"]
    packet = struct.pack(">BBHHHBBH4B4B", 0x45, 0, size, 1, 0x4000, 64, 17, 0, 10, 0, 0, 1, 10, 0, 0, 2).ljust(
        size, b"x"
    )
    client.submit([NO_OFFLOAD + packet] * 3, both.now_ns)
    client.take_sends(both.now_ns)
    (delivery,) = client.take_deliveries()
    notice = b"".join(delivery)[len(NO_OFFLOAD) :]
    assert notice[12:20] == packet[16:20] + packet[12:16]
    assert (notice[9], notice[20:22], notice[26:28]) == (1, b"\x03\x04", struct.pack(">H", 1428))
    client.submit([NO_OFFLOAD + packet[:6] + b"\0" + packet[7:]], both.now_ns + SECOND)  # may be fragmented: not told
    client.take_sends(both.now_ns + SECOND)
    assert client.take_deliveries() == []


def test_in_tap_mode_nobody_is_told() -> None:
    both = pair("tuntap = tap")
    both.ends["client"].submit([NO_OFFLOAD + packets(1, 1500)[0]], both.now_ns)
    both.ends["client"].take_sends(both.now_ns)
    assert both.ends["client"].take_deliveries() == []


def test_equally_long_datagrams_of_a_link_leave_in_trains_that_a_small_reorder_buffer_holds() -> None:
    both = pair()
    client = both.ends["client"]
    client.take_sends(0)
    client.submit([NO_OFFLOAD + packet for packet in packets(40, 1000)], both.now_ns)
    trains = [
        (train.link, len(train.data) // train.datagram_bytes, train.datagram_bytes) for train in client.take_sends(0)
    ]
    assert trains == [(link, count, 1044) for count in (16, 4) for link in "ab"]


def test_a_super_packet_leaves_as_finished_packets() -> None:
    both = pair()
    headers_ = bytearray(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + 3000, 1, 0x4000, 64, 6, 0, bytes(4), bytes(4)))
    headers_ += struct.pack(">HHIIBBHHH", 1, 2, 100, 0, 0x50, 0x10, 1000, 0, 0)
    both.submit("client")
    frame = struct.pack("=BBHHHH", 1, 1, 40, 1000, 20, 16) + headers_ + bytes(3000)
    both.ends["client"].submit([frame], both.now_ns)
    both.run(0.1)
    assert [len(packet) for packet in both.received["server"]] == [1040] * 3
    assert sorted(struct.unpack_from(">I", packet, 24)[0] for packet in both.received["server"]) == [100, 1100, 2100]


def test_numbers_never_repeat_and_data_is_numbered_over_all_links() -> None:
    both = pair()
    both.submit("client", *packets(50))
    both.run(5)
    sent = [header for _, header, _ in headers([train for end, train in both.sent if end == "client"])]
    assert len({(header.flow_id, header.seq) for header in sent}) == len(sent)
    assert sorted(header.data_seq for header in sent if header.type == PacketType.DATA) == list(range(50))
    assert all(header.timestamp != mlvpn1.NO_TIMESTAMP and header.reorder and header.version == 1 for header in sent)


# Reload.


def test_a_reload_keeps_links_that_stay_and_restarts_those_whose_address_changed() -> None:
    both = pair()
    client = both.ends["client"]
    changed = configured("client", "loss_tolerence = 50", link_b="bindport = 4444")
    client.reconfigure(changed, both.now_ns)
    both.run(0.1)
    assert links_of(both.events["client"], LinkDown) == ["b"]
    assert both.up("client") == ["a"]
    client.socket_opened("b", CLIENT["b"], SERVER["b"], both.now_ns)
    both.run(0.5)
    assert both.up("client") == ["a", "b"]


def test_a_reload_removes_and_adds_links() -> None:
    both = pair()
    client = both.ends["client"]
    text = '[general]\nmode="client"\nprotocol="mlvpn1"\npassword="a shared password"\n'
    client.reconfigure(parse(text + '[a]\nremotehost="192.0.2.2"\nremoteport=5081\n', "x"), both.now_ns)
    both.run(0.1)
    assert both.up("client") == both.up("server") == ["a"]
    client.reconfigure(configured("client"), both.now_ns)
    client.socket_opened("b", CLIENT["b"], SERVER["b"], both.now_ns)
    both.run(3)
    assert both.up("client") == both.up("server") == ["a", "b"]


def test_a_reload_changes_the_password_and_cleartext() -> None:
    both = pair()
    for end, core in both.ends.items():
        core.reconfigure(configured(end, "cleartext_data = 1", password=b"a new one"), both.now_ns)
    both.submit("client", *packets(4))
    both.run(0.1)
    assert sorted(both.received["server"]) == packets(4)
    assert both.ends["client"].snapshot(both.now_ns)["cipher"] == "none (cleartext_data)"


def test_a_reload_switches_reordering_on_and_off() -> None:
    both = pair()
    server = both.ends["server"]
    for size in (64, 0, 64):
        server.reconfigure(configured("server", f"reorder_buffer_size = {size}"), both.now_ns)
        both.received["server"].clear()
        both.submit("client", *packets(10))
        both.run(0.1)
        assert sorted(both.received["server"]) == packets(10)
        assert (both.received["server"] == packets(10)) == bool(size)


# Whatever arrives.


def test_no_bytes_from_the_network_raise() -> None:
    server = tunnel("server")
    dice = random.Random(7)
    for size, _ in itertools.product((0, 1, 27, 28, 29, 44, 60), range(50)):
        data = dice.randbytes(size)
        server.receive(ReceivedTrain("a", CLIENT["a"], data, max(size, 1), 0), 0)
    genuine = datagram(PacketType.AUTH, 0)
    for place in range(len(genuine) * 8):
        bent = bytearray(genuine)
        bent[place // 8] ^= 1 << place % 8
        give(server, bytes(bent), 0)
    give(server, genuine, 0, link="unknown", source=("192.0.2.1", 1))
    assert server.snapshot(0)["drops"]["unknown_link_datagrams"] == 1


def test_traffic_leaves_nothing_behind() -> None:
    pair, bursts = Pair(tunnel("client"), tunnel("server")), 400

    def pass_traffic() -> None:
        for number in range(bursts):
            pair.submit("client", *(bytes([0x45, number & 255]) + bytes(size) for size in (60, 700, 1300)))
            pair.run(0.005)
        pair.run(3)
        arrived_packets.append(len(pair.received["server"]))
        pair.sent.clear()
        pair.received["server"].clear()

    arrived_packets: list[int] = []
    assert kept_blocks(pass_traffic) < bursts // 4
    assert arrived_packets[1] == 3 * bursts
