"""What makes a link come up, be suspected, go down and move; what follows from it, and what the daemon is told."""

from __future__ import annotations

import random

import pytest

from mlvpn.burst import Opener, Sealer
from mlvpn.config import parse
from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.events import Event, LinkDown, LinkUp, Log, SocketWanted
from mlvpn.core.link import CHALLENGE_EVERY_NS, RENEW_SOCKET_NS, Link, LinkState
from mlvpn.core.link_watch import LinkWatch
from mlvpn.core.recovery import SentRun
from mlvpn.core.roster import Roster
from mlvpn.core.run import build_bodies
from mlvpn.core.sender import Sender
from mlvpn.crypto.aead import Cipher
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire import frame
from mlvpn.wire.frame import Control

TEXT = """
[general]
mode = client
password = "x"
timeout = 10
[a]
remotehost = 10.0.0.1
remoteport = 1
[b]
remotehost = 10.0.0.1
remoteport = 2
"""
HERE, PEER, ELSEWHERE = ("10.0.0.9", 7), ("10.0.0.1", 1), ("10.0.0.5", 5)
ANSWER_NS = 10 * NS_PER_MS
KEY, INDEX = bytes(32), 1


class Watched:
    """A client's links with open sockets, and a peer that answers what it is asked."""

    def __init__(self, *, keys: bool = True) -> None:
        self.now_ns = 10**12
        self.events: list[Event] = []
        self.roster = Roster(parse(TEXT, "x").links, True, random.Random(1).randbytes, self.now_ns)
        self.a, self.b = self.roster.links
        self.sender = Sender(self.roster.links, False, TunnelCounters(), lambda tun_frame: None)
        if keys:
            self.sender.sealer = Sealer(Cipher.AES_256_GCM, KEY, INDEX, False)
        self.opener = Opener(Cipher.AES_256_GCM, KEY, INDEX, False)
        self.watch = LinkWatch(self.roster.links, True, self.sender, self.events.append)
        for link in (self.a, self.b):
            self.watch.socket_opened(link.name, HERE, PEER, self.now_ns)

    def asked(self, train: Train) -> tuple[Link, int, bytes]:
        """Return the link, the type and the content of the one control frame in a train."""
        (opened,), _ = self.opener.open_train(train.data, train.datagram_bytes)
        ((control, content),) = frame.unpack_controls(opened.body)
        return self.roster.by_number[opened.link], control, content

    def came(self, link: str, source: tuple[str, int] = PEER) -> ReceivedTrain:
        return ReceivedTrain(link, source, b"", 0, self.now_ns)

    def answer(self, silent: str = "") -> None:
        for train in self.sender.take():
            link, control, content = self.asked(train)
            if link.name in silent:
                continue
            if control == Control.PING:
                self.watch.on_pong(link, frame.unpack_ping(content).token, self.came(link.name), self.now_ns)
            elif control == Control.MTU_PROBE:
                self.watch.on_mtu_ack(link, frame.unpack_size(content), self.now_ns)

    def run(self, duration_ns: int, silent: str = "", until: LinkState | None = None) -> None:
        """Let time pass; nothing is answered on ``silent`` links; stop when the first of these is ``until``."""
        end_ns = self.now_ns + duration_ns
        while (due_ns := self.watch.next_deadline_ns()) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns + NS_PER_MS, due_ns)
            self.watch.tick(self.now_ns)
            if until is not None and self.a.state == until:
                return
            self.now_ns += ANSWER_NS
            self.answer(silent)
        self.now_ns = end_ns

    def told(self) -> list[Event]:
        """Take the events, log lines apart."""
        taken: list[Event] = [event for event in self.events if not isinstance(event, Log)]
        self.events.clear()
        return taken


@pytest.fixture
def up() -> Watched:
    """Both links up, and the daemon told."""
    watched = Watched()
    watched.run(NS_PER_S)
    assert watched.told() == [LinkUp("a"), LinkUp("b")]
    return watched


def test_answers_keep_links_up_and_are_told_once(up: Watched) -> None:
    up.run(60 * NS_PER_S)
    assert up.a.state == up.b.state == LinkState.UP
    assert up.a.counters.suspected == 0
    assert up.told() == []


def test_without_keys_nothing_is_asked_and_nothing_is_due() -> None:
    watched = Watched(keys=False)
    watched.watch.tick(watched.now_ns)
    assert watched.sender.take() == []
    assert watched.watch.next_deadline_ns() is None
    assert watched.watch.none_up()


def test_a_silent_link_goes_down_and_wants_a_new_socket(up: Watched) -> None:
    up.run(2 * NS_PER_S, silent="a")
    (down,) = up.told()
    assert isinstance(down, LinkDown) and down.link == "a" and "no answer" in down.reason
    assert (up.a.state, up.b.state) == (LinkState.DOWN, LinkState.UP)
    up.run(RENEW_SOCKET_NS + NS_PER_S, silent="a")
    assert up.told() == [SocketWanted("a")]


def test_a_suspect_that_has_progress_is_up_again_and_nobody_is_told(up: Watched) -> None:
    up.run(5 * NS_PER_S, silent="a", until=LinkState.SUSPECT)
    up.watch.on_progress(up.a, up.now_ns)
    assert up.a.state == LinkState.UP and up.a.proved_ns == up.now_ns
    assert up.told() == []


def test_progress_alone_brings_no_link_up_that_was_down(up: Watched) -> None:
    up.run(2 * NS_PER_S, silent="a")
    up.watch.on_progress(up.a, up.now_ns)
    assert up.a.state == LinkState.DOWN


def test_that_the_last_link_is_down_is_told_after_timeout(up: Watched) -> None:
    up.watch.link_lost("a", "unplugged", up.now_ns)
    assert up.told() == [LinkDown("a", "unplugged")]
    up.watch.link_lost("b", "unplugged", up.now_ns)
    up.watch.tick(up.now_ns + up.b.config.timeout_ns - 1)
    assert up.watch.none_up() and up.told() == []
    up.watch.tick(up.now_ns + up.b.config.timeout_ns)
    assert up.told() == [LinkDown("b", "unplugged")]


def test_the_end_of_the_association_is_told_at_once(up: Watched) -> None:
    up.watch.end("over", up.now_ns)
    assert up.told() == [LinkDown("a", "over"), LinkDown("b", "over")]
    assert up.a.state == up.b.state == LinkState.DOWN


def test_what_a_lost_link_held_goes_over_another(up: Watched) -> None:
    up.a.log.add(SentRun(up.a.take_lseq(1), build_bodies([b"12"], 0, False, 7, 1400), up.now_ns, up.now_ns, 0))
    up.watch.link_lost("a", "unplugged", up.now_ns)
    up.sender.pump(up.now_ns)
    assert [train.link for train in up.sender.take()] == ["b"]


def test_all_links_over_a_socket_share_its_fate(up: Watched) -> None:
    up.b.socket = "a"
    up.watch.path_mtu("a", 1300, up.now_ns)
    assert up.a.mtu.path_mtu_bytes == up.b.mtu.path_mtu_bytes == 1300
    up.watch.link_lost("a", "unplugged", up.now_ns)
    assert up.a.state == up.b.state == LinkState.DOWN


def test_an_address_is_believed_when_it_has_echoed_what_was_sent_there(up: Watched) -> None:
    assert up.watch.challenge(up.a, up.came("a", ELSEWHERE), up.now_ns)
    (train,) = up.sender.take()
    _, control, content = up.asked(train)
    assert (control, train.destination, up.a.remote) == (Control.PING, ELSEWHERE, PEER)
    up.watch.on_pong(up.a, frame.unpack_ping(content).token, up.came("a", ELSEWHERE), up.now_ns)
    assert up.a.remote == ELSEWHERE


def test_an_address_that_echoes_what_went_elsewhere_is_not_believed(up: Watched) -> None:
    token = up.a.new_token(PEER, up.now_ns)
    up.watch.on_pong(up.a, token, up.came("a", ELSEWHERE), up.now_ns)
    assert up.a.remote == PEER


def test_a_new_address_is_challenged_only_so_often(up: Watched) -> None:
    came = up.came("a", ELSEWHERE)
    assert up.watch.challenge(up.a, came, up.now_ns)
    assert not up.watch.challenge(up.a, came, up.now_ns + CHALLENGE_EVERY_NS - 1)
    assert up.watch.challenge(up.a, came, up.now_ns + CHALLENGE_EVERY_NS)


def test_probes_are_answered_where_they_came_from(up: Watched) -> None:
    came = up.came("b", ELSEWHERE)
    up.watch.on_mtu_probe(up.a, 1400, came, up.now_ns)
    up.watch.on_ping(up.a, frame.Ping(77, True), came, up.now_ns)
    assert up.a.fallback
    probe, ping = up.sender.take()
    assert [(train.link, train.destination) for train in (probe, ping)] == [("b", ELSEWHERE)] * 2
    assert up.asked(probe)[1:] == (Control.MTU_ACK, (1400).to_bytes(2, "big"))
