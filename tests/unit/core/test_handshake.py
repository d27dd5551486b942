"""Two ends shaking hands in memory: over lossy, duplicating, slow links by seed, and against strangers.

No sockets, no clock: ``Pair`` carries datagrams between two Handshake objects on virtual time.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlvpn.core.agreement import Path
from mlvpn.core.events import Log
from mlvpn.core.flood import INITS_PER_S
from mlvpn.core.handshake import Handshake, Offer, Session
from mlvpn.core.initiator import ATTEMPTS
from mlvpn.core.responder import PENDING, PENDING_NS
from mlvpn.crypto.aead import Cipher
from mlvpn.crypto.keys import Role, StaticKeys, public_of
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.handshake import INIT_BYTES, Feature

CLIENT_PRIVATE, SERVER_PRIVATE, OTHER_PRIVATE, PSK = (bytes([n]) * 32 for n in (1, 2, 3, 4))
CLIENT_KEYS = StaticKeys(CLIENT_PRIVATE, public_of(SERVER_PRIVATE), PSK)
SERVER_KEYS = StaticKeys(SERVER_PRIVATE, public_of(CLIENT_PRIVATE), PSK)
OFFER = Offer({Cipher.AES_256_GCM: 1000, Cipher.CHACHA20_POLY1305: 2000}, Feature.SLICES, False, 1432)
DSL: Path = ("dsl", ("192.0.2.1", 5000))
LTE: Path = ("lte", ("2001:db8::1", 5000, 0, 0))
_instances = itertools.count(100)


def _random(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def _end(role: Role, keys: StaticKeys | None = None, offer: Offer = OFFER, seed: int = 0) -> Handshake:
    keys = keys or (CLIENT_KEYS if role == "client" else SERVER_KEYS)
    instance = next(_instances)
    return Handshake(role, keys, instance, offer, _random(instance * 1000 + seed), "vpn.example.net")


def _texts(end: Handshake) -> list[str]:
    return [event.text for event in end.take_events() if isinstance(event, Log)]


def _drops(end: Handshake) -> dict[str, int]:
    return {cause: count for cause, count in asdict(end.drops).items() if count}


def _exchange(client: Handshake, server: Handshake, now_ns: int = 0) -> tuple[Session, Session]:
    """Start, carry INIT and RESPONSE over one link, and return both ends' sessions."""
    client.start(now_ns)
    for _, datagram in client.take_sends():
        server.receive(datagram, DSL, now_ns)
    for path, datagram in server.take_sends():
        assert path == DSL
        client.receive(datagram, DSL, now_ns)
    (ours,), (theirs,) = client.take_sessions(), server.take_sessions()
    return ours, theirs


def _assert_match(ours: Session, theirs: Session) -> None:
    assert (ours.send_key, ours.receive_key) == (theirs.receive_key, theirs.send_key)
    assert ours.send_key != ours.receive_key
    assert (ours.local_index, ours.remote_index) == (theirs.remote_index, theirs.local_index)
    shared = ("cipher", "cleartext", "continued")
    assert [getattr(ours, name) for name in shared] == [getattr(theirs, name) for name in shared]
    assert ours.initiator and not theirs.initiator


# --- what two honest ends agree on


def test_agree_on_matching_sessions() -> None:
    client, server = _end("client"), _end("server", offer=replace(OFFER, mtu_bytes=1400))
    ours, theirs = _exchange(client, server)
    _assert_match(ours, theirs)
    assert ours.cipher is Cipher.AES_256_GCM
    assert not ours.continued
    assert (ours.peer_mtu_bytes, theirs.peer_mtu_bytes) == (1400, 1432)
    assert ours.peer_features == theirs.peer_features == Feature.SLICES
    assert client.next_deadline_ns() is None
    assert _drops(client) == _drops(server) == {}


def test_every_session_has_its_own_keys() -> None:
    client, server = _end("client"), _end("server")
    sessions = [_exchange(client, server)[0] for _ in range(3)]
    assert len({key for session in sessions for key in (session.send_key, session.receive_key)}) == 6


def test_session_repr_shows_no_key() -> None:
    ours, _ = _exchange(_end("client"), _end("server"))
    assert repr(ours.send_key) not in repr(ours)
    assert repr(ours.receive_key) not in repr(ours)
    assert "key" not in repr(ours)


def test_the_slower_end_chooses_the_cipher() -> None:
    router = replace(OFFER, costs={Cipher.AES_256_GCM: 30_000, Cipher.CHACHA20_POLY1305: 9_000})
    for client, server in (
        (_end("client", offer=router), _end("server")),
        (_end("client"), _end("server", offer=router)),
    ):
        ours, theirs = _exchange(client, server)
        assert ours.cipher is theirs.cipher is Cipher.CHACHA20_POLY1305


@pytest.mark.parametrize(("client", "server"), itertools.product((False, True), repeat=2))
def test_cleartext_only_if_both_wish_it(client: bool, server: bool) -> None:
    ends = (
        _end("client", offer=replace(OFFER, cleartext=client)),
        _end("server", offer=replace(OFFER, cleartext=server)),
    )
    ours, theirs = _exchange(*ends)
    assert ours.cleartext == theirs.cleartext == (client and server)
    assert (Feature.CLEARTEXT in theirs.peer_features) == client


def test_no_common_cipher_is_refused_with_a_line() -> None:
    client = _end("client", offer=replace(OFFER, costs={Cipher.AES_256_GCM: 1}))
    server = _end("server", offer=replace(OFFER, costs={Cipher.CHACHA20_POLY1305: 1}))
    client.start(0)
    server.receive(client.take_sends()[0][1], DSL, 0)
    assert not server.take_sends()
    assert _drops(server) == {"no_common_cipher": 1}
    assert "cipher" in _texts(server)[0]


# --- association


def test_rekey_continues_once_the_session_was_confirmed() -> None:
    client, server = _end("client"), _end("server")
    _, first = _exchange(client, server)
    server.confirm(first.local_index)
    ours, theirs = _exchange(client, server, 120 * NS_PER_S)
    _assert_match(ours, theirs)
    assert ours.continued


def test_not_continued_when_the_server_never_heard_the_first() -> None:
    client, server = _end("client"), _end("server")
    _exchange(client, server)
    ours, theirs = _exchange(client, server, NS_PER_S)
    assert not ours.continued
    assert not theirs.continued


@pytest.mark.parametrize("restarted", ["client", "server"])
def test_restart_of_either_end_begins_anew(restarted: Role) -> None:
    ends = {"client": _end("client"), "server": _end("server")}
    _, first = _exchange(ends["client"], ends["server"])
    ends["server"].confirm(first.local_index)
    ends[restarted] = _end(restarted)
    ours, theirs = _exchange(ends["client"], ends["server"], NS_PER_S)
    _assert_match(ours, theirs)
    assert not ours.continued


@pytest.mark.parametrize("forgetful", ["client", "server"])
def test_forgetting_begins_anew(forgetful: Role) -> None:
    ends = {"client": _end("client"), "server": _end("server")}
    _, first = _exchange(ends["client"], ends["server"])
    ends["server"].confirm(first.local_index)
    ends[forgetful].forget()
    ours, theirs = _exchange(ends["client"], ends["server"], NS_PER_S)
    _assert_match(ours, theirs)
    assert not ours.continued


# --- links: several, lossy, slow


def test_copies_of_an_init_get_the_same_response_on_each_path() -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    ((path, init),) = client.take_sends()
    assert path is None
    server.receive(init, DSL, 0)
    server.receive(init, LTE, 1)
    (first_path, first), (second_path, second) = server.take_sends()
    assert (first_path, second_path) == (DSL, LTE)
    assert first == second
    assert len(server.take_sessions()) == 1
    client.receive(first, DSL, 2)
    client.receive(second, LTE, 3)
    assert len(client.take_sessions()) == 1
    assert _drops(client) == {"duplicate": 1}
    assert server.counters.response_repeated == 1


def test_retries_often_at_first_then_each_second_with_new_keys() -> None:
    client = _end("client")
    client.start(0)
    sent, times_ms = [client.take_sends()[0][1]], [0]
    while len(sent) < 9:
        deadline_ns = client.next_deadline_ns()
        assert deadline_ns is not None
        client.tick(deadline_ns - 1)
        assert not client.take_sends()
        client.tick(deadline_ns)
        sent.append(client.take_sends()[0][1])
        times_ms.append(deadline_ns // NS_PER_MS)
    assert times_ms == [0, 250, 500, 750, 1000, 1500, 2000, 3000, 4000]
    assert len({init[5:37] for init in sent}) == len(sent)
    assert len({init[1:5] for init in sent}) == len(sent)


def test_start_while_trying_repeats_the_same_init() -> None:
    client = _end("client")
    client.start(0)
    client.start(NS_PER_MS)
    (_, first), (_, second) = client.take_sends()
    assert first == second
    assert client.next_deadline_ns() == 250 * NS_PER_MS


@dataclass
class Pair:
    """Two ends and the links between them; ``run`` jumps from one moment at which something happens to the next."""

    seed: int
    loss_ratio: float
    delays_ms: tuple[int, ...]
    client: Handshake = field(default_factory=lambda: _end("client"))
    server: Handshake = field(default_factory=lambda: _end("server"))
    now_ns: int = 0
    agreed: list[Session] = field(default_factory=list)
    pending: dict[int, Session] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.order = itertools.count()
        self.flying: list[tuple[int, int, Handshake, bytes, Path]] = []

    def collect(self) -> None:
        paths: list[Path] = [(f"link{n}", (f"192.0.2.{n}", 5000)) for n in range(len(self.delays_ms))]
        for end, other in ((self.client, self.server), (self.server, self.client)):
            for path, datagram in end.take_sends():
                for target in [path] if path else paths:
                    self.carry(other, datagram, target)
        self.agreed += self.client.take_sessions()
        self.pending.update({session.local_index: session for session in self.server.take_sessions()})
        for index in self.server.take_retired():
            del self.pending[index]

    def carry(self, to: Handshake, datagram: bytes, path: Path) -> None:
        for _ in range(self.random.choice((1, 1, 2))):
            if self.random.random() >= self.loss_ratio:
                delay_ms = self.delays_ms[int(path[0][4:])] * self.random.uniform(1, 3)
                at_ns = self.now_ns + int(delay_ms * NS_PER_MS)
                heapq.heappush(self.flying, (at_ns, next(self.order), to, datagram, path))

    def moments(self) -> Iterator[int]:
        yield from (flight[0] for flight in self.flying)
        yield from (d for end in (self.client, self.server) if (d := end.next_deadline_ns()) is not None)

    def run(self, done: Callable[[], bool], limit_ns: int) -> None:
        self.collect()
        while not done():
            self.now_ns = max(self.now_ns, min(self.moments()))
            assert self.now_ns < limit_ns, f"nothing agreed in time, seed {self.seed}"
            while self.flying and self.flying[0][0] <= self.now_ns:
                _, _, end, datagram, path = heapq.heappop(self.flying)
                end.receive(datagram, path, self.now_ns)
            self.client.tick(self.now_ns)
            self.server.tick(self.now_ns)
            self.collect()


@pytest.mark.parametrize("seed", range(20))
def test_agree_over_bad_links_and_rekey(seed: int) -> None:
    """Half of everything is lost, much of it doubled, one link has two seconds of delay."""
    pair = Pair(seed, 0.5, (20, 300, 700))
    for round_number in range(3):
        pair.agreed.clear()
        pair.client.start(pair.now_ns)
        pair.run(lambda: bool(pair.agreed), pair.now_ns + 60 * NS_PER_S)
        (ours,) = pair.agreed
        _assert_match(ours, pair.pending[ours.remote_index])
        assert ours.continued == (round_number > 0)
        pair.server.confirm(ours.remote_index)
        pair.now_ns += 120 * NS_PER_S


def test_four_seconds_of_round_trip_are_no_obstacle() -> None:
    pair = Pair(0, 0.0, (1300,))
    pair.client.start(0)
    pair.run(lambda: bool(pair.agreed), 9 * NS_PER_S)
    assert pair.agreed[0].remote_index in pair.pending


def test_attempts_are_bounded() -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    first = client.take_sends()[0][1]
    for second in range(1, ATTEMPTS + 1):
        client.tick(second * NS_PER_S)
    server.receive(first, DSL, 0)
    client.receive(server.take_sends()[0][1], DSL, 20 * NS_PER_S)
    assert not client.take_sessions()
    assert _drops(client) == {"unexpected": 1}


# --- pending sessions of the server


def test_unconfirmed_session_is_retired_confirmed_is_not() -> None:
    client, server = _end("client"), _end("server")
    _, first = _exchange(client, server)
    _, second = _exchange(client, server)
    server.confirm(second.local_index)
    assert server.take_retired() == [first.local_index]
    assert server.next_deadline_ns() == PENDING_NS
    _, third = _exchange(client, server, NS_PER_S)
    server.tick(PENDING_NS)
    assert server.take_retired() == []
    server.tick(PENDING_NS + NS_PER_S)
    assert server.take_retired() == [third.local_index]
    assert server.next_deadline_ns() is None


def test_confirming_twice_or_something_unknown_does_nothing() -> None:
    client, server = _end("client"), _end("server")
    _, theirs = _exchange(client, server)
    for index in (theirs.local_index, theirs.local_index, 12345):
        server.confirm(index)
    assert server.counters.confirmed == 1


def test_late_copy_of_a_confirmed_init_makes_no_second_session() -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    init = client.take_sends()[0][1]
    server.receive(init, DSL, 0)
    server.confirm(server.take_sessions()[0].local_index)
    server.receive(init, LTE, NS_PER_S)
    assert not server.take_sessions()
    assert server.counters.response_repeated == 1


def test_replayed_init_changes_nothing_in_use() -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    recorded = client.take_sends()[0][1]
    server.receive(recorded, DSL, 0)
    client.receive(server.take_sends()[0][1], DSL, 0)
    server.confirm(server.take_sessions()[0].local_index)
    server.tick(PENDING_NS)
    server.receive(recorded, LTE, 60 * NS_PER_S)
    assert len(server.take_sends()) == 1
    (pending,) = server.take_sessions()
    server.tick(60 * NS_PER_S + PENDING_NS)
    assert server.take_retired() == [pending.local_index]
    client.take_sessions()
    ours, _ = _exchange(client, server, 120 * NS_PER_S)
    assert ours.continued


def test_pending_sessions_are_bounded() -> None:
    server, count = _end("server"), PENDING + 10
    live: set[int] = set()
    for number in range(count):
        client = _end("client")
        client.start(0)
        # 19 a second: just under what the gate asks cookies for; the server's timer is held still on purpose.
        server.receive(client.take_sends()[0][1], DSL, number * NS_PER_S // (INITS_PER_S - 1))
        live |= {session.local_index for session in server.take_sessions()}
        live -= set(server.take_retired())
    assert len(live) == PENDING


# --- strangers


def test_other_password_gets_no_answer_and_one_line_at_each_end() -> None:
    client = _end("client", StaticKeys(OTHER_PRIVATE, public_of(OTHER_PRIVATE), PSK))
    server = _end("server")
    client.start(0)
    lines: list[str] = []
    answers, now_ns = 0, 0
    for _ in range(60):
        for _, datagram in client.take_sends():
            server.receive(datagram, DSL, now_ns)
        answers += len(server.take_sends())
        lines += _texts(client)
        deadline_ns = client.next_deadline_ns()
        assert deadline_ns is not None
        now_ns = deadline_ns
        client.tick(now_ns)
    assert answers == 0
    assert lines == [
        "no answer from vpn.example.net for 5 s: is the server running, its address right, its UDP port open, "
        'the password the same (or the keys each other\'s) at both ends, and protocol = "native" at both?'
    ]
    assert _texts(server) == [
        "link dsl: the handshake from 192.0.2.1:5000 does not know this server's key: "
        "is the password (or peer_key) the same at both ends?"
    ]
    assert _drops(server) == {"bad_mac1": 60}


def test_warnings_come_back_after_a_minute() -> None:
    server = _end("server")
    for second in range(0, 130, 10):
        server.receive(b"\x01" + bytes(INIT_BYTES - 1), LTE, second * NS_PER_S)
    texts = _texts(server)
    assert len(texts) == 3
    assert "[2001:db8::1]:5000" in texts[0]


def test_unknown_client_key_is_refused_with_a_line() -> None:
    client = _end("client", StaticKeys(OTHER_PRIVATE, public_of(SERVER_PRIVATE), PSK))
    server = _end("server")
    client.start(0)
    server.receive(client.take_sends()[0][1], DSL, 0)
    assert not server.take_sends()
    assert not server.take_sessions()
    assert _drops(server) == {"not_authentic": 1}
    assert "peer_key" in _texts(server)[0]


def test_other_psk_is_told_at_both_ends() -> None:
    client, server = _end("client", replace(CLIENT_KEYS, psk=bytes(32))), _end("server")
    pair = Pair(0, 0.0, (10,), client, server)
    client.start(0)
    pair.run(lambda: pair.now_ns > 9 * NS_PER_S, 10 * NS_PER_S)
    assert not pair.agreed
    assert len(pair.pending) <= 7
    for end in (client, server):
        (text,) = _texts(end)
        assert "psk" in text
    assert client.drops.not_authentic > 5


def test_slow_but_honest_client_causes_no_complaint() -> None:
    pair = Pair(0, 0.0, (1300,))
    pair.client.start(0)
    pair.run(lambda: bool(pair.agreed), 9 * NS_PER_S)
    pair.server.confirm(pair.agreed[0].remote_index)
    pair.server.tick(pair.now_ns + 10 * NS_PER_S)
    assert pair.server.counters.expired > 2
    assert _texts(pair.server) == []


def test_forged_response_does_not_spoil_the_attempt() -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    server.receive(client.take_sends()[0][1], DSL, 0)
    response = server.take_sends()[0][1]
    for at in range(len(response)):
        client.receive(response[:at] + bytes([response[at] ^ 1]) + response[at + 1 :], LTE, 0)
    client.receive(response, DSL, 0)
    assert len(client.take_sessions()) == 1


@settings(max_examples=200, deadline=None)
@given(role=st.sampled_from(["client", "server"]), kind=st.sampled_from(range(7)), rest=st.binary(max_size=500))
def test_garbage_is_counted_once_and_answered_never(role: Role, kind: int, rest: bytes) -> None:
    end = _end(role)
    end.receive(bytes([kind]) + rest, DSL, 0)
    assert sum(_drops(end).values()) == 1
    assert not end.take_sends()
    assert not end.take_sessions()


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, INIT_BYTES - 1), bit=st.integers(0, 7), cut=st.integers(0, INIT_BYTES))
def test_changed_init_is_never_answered(at: int, bit: int, cut: int) -> None:
    client, server = _end("client"), _end("server")
    client.start(0)
    init = bytearray(client.take_sends()[0][1])
    if at < INIT_BYTES - 16:  # mac2 means nothing while there is no flood
        init[at] ^= 1 << bit
        server.receive(bytes(init), DSL, 0)
        assert sum(_drops(server).values()) == 1
    server.receive(bytes(init[:cut]) if cut < INIT_BYTES else b"", DSL, 0)
    assert not server.take_sends()
    assert not server.take_sessions()


def test_wrong_role_is_counted() -> None:
    client, other = _end("client"), _end("client")
    client.start(0)
    other.receive(client.take_sends()[0][1], DSL, 0)
    other.receive(b"", DSL, 0)
    assert _drops(other) == {"unexpected": 2}


# --- flood


def _flood(server: Handshake, now_ns: int = 0) -> None:
    """Use up what is admitted without a cookie, with authentic INITs."""
    for _ in range(INITS_PER_S):
        client = _end("client")
        client.start(now_ns)
        server.receive(client.take_sends()[0][1], LTE, now_ns)
    server.take_sends()
    server.take_sessions()


def test_under_flood_a_cookie_is_asked_for_and_enough() -> None:
    client, server = _end("client"), _end("server")
    _flood(server)
    client.start(0)
    init = client.take_sends()[0][1]
    server.receive(init, DSL, 0)
    assert not server.take_sessions()
    assert _drops(server) == {"cookie_wanted": 1}
    ((path, cookie),) = server.take_sends()
    assert len(cookie) < len(init)
    client.receive(cookie, DSL, 0)
    ((again_path, proven),) = client.take_sends()
    assert path == again_path == DSL
    assert (proven[:-16], len(proven)) == (init[:-16], len(init))
    server.receive(proven, LTE, 0)
    assert not server.take_sessions(), "a cookie is bound to the address it was given to"
    server.receive(proven, DSL, 0)
    assert len(server.take_sessions()) == 1


def test_one_address_cannot_use_up_the_work_even_with_cookies() -> None:
    server = _end("server")
    _flood(server)
    for _ in range(30):
        client = _end("client")
        client.start(0)
        server.receive(client.take_sends()[0][1], DSL, 0)
        client.receive(server.take_sends()[0][1], DSL, 0)
        server.receive(client.take_sends()[0][1], DSL, 0)
        server.take_sends()
    assert len(server.take_sessions()) == 4
    assert server.drops.rate_limited == 26


def test_forged_or_replayed_cookies_make_no_flood_of_inits() -> None:
    client, server = _end("client"), _end("server")
    _flood(server)
    client.start(0)
    server.receive(client.take_sends()[0][1], DSL, 0)
    cookie = server.take_sends()[0][1]
    client.receive(cookie[:-1] + bytes([cookie[-1] ^ 1]), DSL, 0)
    assert _drops(client) == {"not_authentic": 1}
    for _ in range(1000):
        client.receive(cookie, DSL, 0)
    assert len(client.take_sends()) < 20
    assert client.drops.rate_limited > 900
