"""The window towards a peer that reads datagram by datagram: what is unanswered, and what waits meanwhile."""

from __future__ import annotations

import random

import pytest

from mlvpn.config import parse
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.mlvpn1 import Mlvpn1Tunnel
from mlvpn.core.mlvpn1.outgoing import QUEUE_PACKETS
from mlvpn.core.mlvpn1.window import (
    ANSWERING_RATIO,
    FORGET_NS,
    LEAST_DATAGRAMS,
    MEMORY_DATAGRAMS,
    NEAR_NS,
    SILENT_NS,
    UNLIMITED_DATAGRAMS,
    WINDOW_DATAGRAMS,
    Answering,
    Flight,
)
from mlvpn.wire import mlvpn1
from mlvpn.wire.mlvpn1 import CONTROL_BODIES, NO_TIMESTAMP, READS_TRAINS, Header, PacketType
from mlvpn.wire.vnet import NO_OFFLOAD

MS = 1_000_000
SECOND = 1000 * MS
PASSWORD = b"a shared password"
KEY = mlvpn1.password_key(PASSWORD)
SOURCE = {"a": ("192.0.2.1", 40001), "b": ("198.51.100.1", 40002)}


def near_flight() -> Flight:
    flight = Flight()
    flight.measured(0, 0)
    return flight


def test_a_near_link_takes_a_window_until_it_is_answered() -> None:
    flight = near_flight()
    assert flight.room(0) == WINDOW_DATAGRAMS
    flight.sent(100, 16, MS)
    flight.sent(101, 16, 2 * MS)
    assert flight.room(2 * MS) == WINDOW_DATAGRAMS - 32
    flight.answered(99)
    assert flight.room(2 * MS) == WINDOW_DATAGRAMS - 32
    flight.answered(100)
    assert flight.room(2 * MS) == WINDOW_DATAGRAMS - 16
    flight.answered(102)
    assert flight.room(2 * MS) == WINDOW_DATAGRAMS


def test_an_answer_from_behind_the_turn_of_the_clock_counts() -> None:
    flight = near_flight()
    flight.sent(mlvpn1.TIMESTAMP_MODULUS - 2, 16, MS)
    flight.answered(1)
    assert flight.room(MS) == WINDOW_DATAGRAMS


def test_little_room_is_none() -> None:
    flight = near_flight()
    flight.sent(1, WINDOW_DATAGRAMS - LEAST_DATAGRAMS, MS)
    assert flight.room(MS) == LEAST_DATAGRAMS
    flight.sent(1, 1, MS)
    assert flight.room(MS) == 0


def test_what_is_never_answered_is_forgotten_in_time() -> None:
    flight = near_flight()
    assert flight.deadline_ns() is None
    flight.sent(1, WINDOW_DATAGRAMS, MS)
    assert flight.deadline_ns() == MS + FORGET_NS
    assert flight.room(MS + FORGET_NS - 1) == 0
    assert flight.room(MS + FORGET_NS) == WINDOW_DATAGRAMS


def test_only_a_round_trip_that_is_not_measurable_makes_a_link_near_and_only_for_a_while() -> None:
    flight = Flight()
    flight.measured(1, 0)
    assert flight.room(0) == UNLIMITED_DATAGRAMS
    flight.measured(0, 0)
    assert flight.room(NEAR_NS - 1) == WINDOW_DATAGRAMS
    assert flight.room(NEAR_NS) == UNLIMITED_DATAGRAMS


def test_a_peer_that_only_listens_is_not_expected_to_answer_and_one_that_acknowledges_is() -> None:
    answering = Answering()
    answering.heard(1, 0)
    assert answering.is_likely(0)
    answering.sent(MEMORY_DATAGRAMS)
    assert not answering.is_likely(0)
    for _ in range(4 * MEMORY_DATAGRAMS // 32):
        answering.sent(32)
        answering.heard(1, 0)
    assert ANSWERING_RATIO < 1 / 32
    assert answering.is_likely(SILENT_NS - 1)
    assert not answering.is_likely(SILENT_NS)


class NearPeer:
    """A server and what a client of MLVPN 2.x on the next desk sends it."""

    def __init__(self, *, sign: int = 0, rtt_ms: int = 0, filtered: str | None = None) -> None:
        text = f'[general]\nmode = "server"\nprotocol = "mlvpn1"\npassword = "{PASSWORD.decode()}"\ntimeout = 10\n'
        text += "[a]\nbindport = 5081\n[b]\nbindport = 5082\n"
        self.now_ns = SECOND
        self.core = Mlvpn1Tunnel(parse(text, "test.conf"), self.now_ns, random.Random(1).randbytes)
        if filtered:
            self.core.set_filters(lambda _packet: [filtered])
        self._sign, self._rtt_ms = sign, rtt_ms
        self._seq = 0
        for link, (host, port) in SOURCE.items():
            self.core.socket_opened(link, (host, port + 1), None, self.now_ns)
            self.say(PacketType.AUTH, link, reply=NO_TIMESTAMP)
            self.say(PacketType.KEEPALIVE, link)
        self.core.take_sends(self.now_ns)
        self.now_ns += FORGET_NS

    def say(self, kind: PacketType, link: str, reply: int | None = None, stretch_ns: int = 0) -> None:
        """Send a control datagram that answers what was sent a round trip ago."""
        self._seq += 1
        reply = mlvpn1.timestamp(self.now_ns - self._rtt_ms * MS) if reply is None else reply
        sealed = mlvpn1.seal(CONTROL_BODIES[kind], ord(link), self._seq, KEY)
        header = Header(len(sealed), 1, kind, True, 1, reply, ord(link), self._seq, self._sign)
        data = mlvpn1.pack(header) + sealed
        train = ReceivedTrain(link, SOURCE[link], data, len(data), self.now_ns - stretch_ns, stretch_ns)
        self.core.receive(train, self.now_ns)

    def submit(self, count: int) -> None:
        self.core.submit([NO_OFFLOAD + b"\x45" + bytes(1399)] * count, self.now_ns)

    def sent(self) -> dict[str, int]:
        """Count the datagrams of packets sent since the last call, by link."""
        counts = {"a": 0, "b": 0}
        for train in self.core.take_sends(self.now_ns):
            for start in range(0, len(train.data), train.datagram_bytes):
                header = mlvpn1.unpack(train.data, start, min(start + train.datagram_bytes, len(train.data)))
                counts[train.link] += header.type == PacketType.DATA
        return counts

    def waiting(self) -> int:
        return self.core.snapshot(self.now_ns)["queue_packets"]


def test_a_near_peer_gets_a_window_and_more_with_each_answer_on_any_link() -> None:
    peer = NearPeer()
    peer.submit(300)
    first = peer.sent()
    assert WINDOW_DATAGRAMS - 1 <= first["a"] <= WINDOW_DATAGRAMS
    assert WINDOW_DATAGRAMS - 1 <= first["b"] <= WINDOW_DATAGRAMS
    assert peer.waiting() == 300 - sum(first.values())
    peer.now_ns += MS
    peer.say(PacketType.KEEPALIVE, "a", reply=mlvpn1.timestamp(peer.now_ns - MS))
    more = peer.sent()
    assert sum(more.values()) >= 2 * WINDOW_DATAGRAMS - 1
    assert peer.waiting() == 300 - sum(first.values()) - sum(more.values())


def test_the_round_trip_of_a_train_that_came_slowly_ends_with_its_last_datagram() -> None:
    peer = NearPeer(rtt_ms=20)
    peer.say(PacketType.KEEPALIVE, "a", stretch_ns=20 * MS)
    assert peer.core.snapshot(peer.now_ns)["links"][0]["rtt_ms"] == pytest.approx(20, abs=1)


def test_without_an_answer_the_clock_sends_what_waits() -> None:
    peer = NearPeer()
    peer.submit(120)
    assert sum(peer.sent().values()) < 120
    end_ns = peer.now_ns + FORGET_NS
    while peer.waiting():
        deadline_ns = peer.core.next_deadline_ns()
        assert deadline_ns is not None
        assert deadline_ns <= end_ns
        peer.now_ns = max(peer.now_ns, deadline_ns)
        peer.core.tick(peer.now_ns)
        peer.sent()


def test_what_is_too_much_to_wait_is_dropped_and_leaves_no_gap_in_the_numbers() -> None:
    peer = NearPeer()
    peer.submit(2 * QUEUE_PACKETS)
    first = sum(peer.sent().values())
    assert peer.waiting() == QUEUE_PACKETS
    assert peer.core.snapshot(peer.now_ns)["drops"]["queue_full_packets"] == QUEUE_PACKETS - first
    numbers = []
    for _ in range(40):
        peer.now_ns += FORGET_NS
        peer.core.tick(peer.now_ns)
        for train in peer.core.take_sends(peer.now_ns):
            header, data_seqs = mlvpn1.unpack_run(train.data, train.datagram_bytes) or (None, [])
            numbers += data_seqs if header else []
    assert sorted(numbers) == list(range(first, first + len(numbers)))
    assert peer.waiting() == 0


def test_the_goodbye_comes_last_and_nothing_waits_behind_it() -> None:
    peer = NearPeer()
    peer.sent()
    peer.submit(300)
    peer.core.close(peer.now_ns)
    last: dict[str, PacketType] = {}
    for train in peer.core.take_sends(peer.now_ns):
        last[train.link] = PacketType(mlvpn1.unpack(train.data, 0, train.datagram_bytes).type)
    assert last == {"a": PacketType.DISCONNECT, "b": PacketType.DISCONNECT}
    assert peer.waiting() == 0
    status = peer.core.snapshot(peer.now_ns)
    assert status["drops"]["queue_full_packets"] + sum(link["sent_datagrams"] for link in status["links"]) > 300


@pytest.mark.parametrize(("sign", "rtt_ms"), [(READS_TRAINS, 0), (0, 20)])
def test_a_peer_that_reads_trains_and_one_that_is_far_get_all_at_once(sign: int, rtt_ms: int) -> None:
    peer = NearPeer(sign=sign, rtt_ms=rtt_ms)
    peer.submit(800)
    assert sum(peer.sent().values()) == 800


def test_a_peer_that_only_listens_is_not_waited_for() -> None:
    peer = NearPeer()
    sent = 0
    for _ in range(100):
        peer.now_ns += MS
        peer.submit(20)
        sent += sum(peer.sent().values())
    assert sent == 2000


def test_what_a_filter_pins_waits_too_and_stays_on_its_link() -> None:
    peer = NearPeer(filtered="b")
    peer.submit(100)
    assert peer.sent() == {"a": 0, "b": WINDOW_DATAGRAMS}
    peer.now_ns += MS
    peer.say(PacketType.KEEPALIVE, "b", reply=mlvpn1.timestamp(peer.now_ns))
    assert peer.sent()["a"] == 0
    assert peer.waiting() == 100 - 2 * WINDOW_DATAGRAMS
