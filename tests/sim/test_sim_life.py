"""Restarts, other addresses, other paths and hostile datagrams under way."""

from __future__ import annotations

import random

import pytest

from mlvpn.core.burst_io import ReceivedTrain, Train
from mlvpn.core.link import LinkState
from sim.ledger import Ledger, Stream
from sim.simulator import MS, SECOND, End, Simulator, sim_link, udp_frame

BACK_NS = 2 * SECOND


def busy(rate_bps: float = 5e6, **more: float) -> tuple[Simulator, Ledger, list[Stream]]:
    """Return two links that have carried a flow in each direction for three seconds."""
    sim = Simulator([sim_link("a", 20e6, 10 * MS, **more), sim_link("b", 20e6, 20 * MS, **more)])
    ledger = Ledger(sim)
    sim.run(SECOND)
    streams = [ledger.stream(to_client) for to_client in (False, True)]
    for stream in streams:
        ledger.send_steadily(stream, rate_bps, until_ns=sim.now_ns + 60 * SECOND)
    sim.run(3 * SECOND)
    return sim, ledger, streams


def back_within(sim: Simulator, streams: list[Stream], limit_ns: int) -> bool:
    """Say whether something sent from now on comes in both directions in time."""
    since_ns = sim.now_ns

    def back() -> bool:
        return all(stream.sent_ns[stream.arrivals[-1]] > since_ns for stream in streams)

    return sim.run_until(back, limit_ns) < limit_ns


@pytest.mark.parametrize("mode", ["client", "server"])
def test_traffic_is_back_two_seconds_after_a_restart(mode: str) -> None:
    sim, ledger, streams = busy()
    ledger.restart(mode)
    assert back_within(sim, streams, BACK_NS)
    sim.run(5 * SECOND)
    assert all(link.state == LinkState.UP for end in (sim.client, sim.server) for link in end.tunnel.links)
    ledger.check_account()


def test_a_server_that_starts_after_the_client_is_found() -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS)])
    sim.server.alive = False
    sim.run(20 * SECOND)
    assert sim.client.ticks < 1000, "waiting costs nothing"
    sim.start("server")
    ledger = Ledger(sim)
    streams = [ledger.stream(to_client) for to_client in (False, True)]
    for stream in streams:
        ledger.send_steadily(stream, 1e6, until_ns=sim.now_ns + 5 * SECOND)
    assert sim.run_until(lambda: all(stream.arrivals for stream in streams), BACK_NS) < BACK_NS


@pytest.mark.parametrize("names", [["a"], ["b"], ["a", "b"]])
def test_another_source_port_under_way(names: list[str]) -> None:
    sim, ledger, streams = busy()
    for name in names:
        sim.rebind(name)
    assert back_within(sim, streams, BACK_NS)
    sim.run(3 * SECOND)
    for link in sim.server.tunnel.links:
        assert link.remote == ("10.0.0.1", sim.links[link.name].port)
        assert link.state == LinkState.UP
    assert sim.server.tunnel.counters.given_up_datagrams == 0
    ledger.check_account()


def test_rekeying_loses_nothing() -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 20 * MS)])
    ledger = Ledger(sim)
    sim.run(118 * SECOND)
    first = sim.client.tunnel.sessions.current
    streams = [ledger.stream(to_client) for to_client in (False, True)]
    for stream in streams:
        ledger.send_steadily(stream, 5e6, until_ns=sim.now_ns + 4 * SECOND)
    sim.run(5 * SECOND)
    assert sim.client.tunnel.sessions.current is not first
    assert all(stream.lost == [] for stream in streams)


# --- hostile datagrams


def recorded(sim: Simulator) -> list[tuple[End, Train]]:
    """Record everything that is sent from now on."""
    trains: list[tuple[End, Train]] = []
    carry = sim.carry

    def record(sender: End, train: Train) -> None:
        trains.append((sender, train))
        carry(sender, train)

    sim.carry = record  # type: ignore[method-assign]
    return trains


def inject(sim: Simulator, to_server: bool, train: Train, data: bytes) -> None:
    end = sim.server if to_server else sim.client
    source = ("192.0.2.66", 666)
    end.tunnel.receive(ReceivedTrain(train.link, source, data, len(data), sim.now_ns), sim.now_ns)
    end.flush()


def test_replayed_datagrams_are_counted_and_do_nothing() -> None:
    sim, ledger, streams = busy()
    trains = recorded(sim)
    sim.run(500 * MS)
    sim.run(SECOND)
    injected = 0
    for sender, train in trains[:500]:
        for at in range(0, len(train.data), train.datagram_bytes):
            inject(sim, sender.is_client, train, train.data[at : at + train.datagram_bytes])
            injected += 1
    counted = sum(end.tunnel.counters.replayed_datagrams for end in (sim.client, sim.server))
    assert counted == injected > 400
    sim.run(2 * SECOND)
    assert all(link.remote == ("10.0.0.1", 40000) for link in sim.server.tunnel.links)
    assert all(link.counters.went_down == 0 for link in sim.server.tunnel.links)
    check_unharmed(sim, ledger, streams)


@pytest.mark.parametrize("harm", ["flip", "truncate", "noise"])
def test_damaged_datagrams_are_counted_and_do_nothing(harm: str) -> None:
    sim, ledger, streams = busy()
    trains = recorded(sim)
    sim.run(SECOND)
    dice = random.Random(5)
    sample = dice.sample(trains, 400)
    before = {end: dropped(end) for end in (sim.client, sim.server)}
    sent = dict.fromkeys(before, 0)
    for sender, train in sample:
        data = bytearray(train.data[: train.datagram_bytes])
        if harm == "flip":
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        elif harm == "truncate":
            del data[dice.randrange(len(data)) :]
        else:
            data = bytearray(dice.randbytes(dice.randrange(1500)))
        sent[sim.server if sender.is_client else sim.client] += 1
        inject(sim, sender.is_client, train, bytes(data))
    for end, count in sent.items():
        assert dropped(end) - before[end] == count
    sim.run(2 * SECOND)
    assert all(link.remote == ("10.0.0.1", 40000) for link in sim.server.tunnel.links)
    check_unharmed(sim, ledger, streams)


@pytest.mark.parametrize("byte", [0, 8, 20], ids=["type", "session", "body"])
def test_forged_datagrams_around_a_train_do_not_take_it_along(byte: int) -> None:
    """The kernel joins what comes from one address, whoever has sent it."""
    sim, _, _ = busy()
    trains = recorded(sim)
    sim.run(200 * MS)
    train = next(one for sender, one in trains if sender.is_client and len(one.data) == one.datagram_bytes > 1000)
    forged = bytearray(train.data)
    forged[byte] ^= 0x40
    counters, source = sim.server.tunnel.counters, ("10.0.0.1", 40000)
    before = dropped(sim.server), counters.replayed_datagrams
    data = bytes(forged) + train.data + bytes(forged)
    sim.server.tunnel.receive(ReceivedTrain(train.link, source, data, train.datagram_bytes, sim.now_ns), sim.now_ns)
    assert dropped(sim.server) == before[0] + 2
    assert counters.replayed_datagrams == before[1] + 1, "the genuine one is known"


def dropped(end: End) -> int:
    counters = end.tunnel.counters
    causes = counters.unauthentic_datagrams + counters.unknown_type_datagrams + counters.unknown_index_datagrams
    drops = end.tunnel.handshake.drops
    return causes + sum(getattr(drops, name) for name in type(drops).__slots__ if name != "duplicate")


def check_unharmed(sim: Simulator, ledger: Ledger, streams: list[Stream]) -> None:
    sent = [len(stream.sent_ns) for stream in streams]
    sim.run(SECOND)
    for stream, count in zip(streams, sent, strict=True):
        assert set(stream.lost).isdisjoint(range(count)), "everything came all the same"
        assert stream.longest_gap_ns(sim.now_ns - 4 * SECOND, sim.now_ns) < 50 * MS


# --- sizes


def mtu_of(end: End, name: str) -> int:
    return next(link for link in end.tunnel.links if link.name == name).mtu.path_mtu_bytes


def icmp_mtus(end: End, sizes: list[int]) -> list[int]:
    """Submit packets of these sizes; return the MTUs that the answering ICMP messages tell."""
    told: list[int] = []
    watch = end.on_packet

    def arrived(packet: bytes, now_ns: int) -> None:
        if packet[9] == 1:
            assert packet[20:22] == b"\x03\x04", "destination unreachable, fragmentation needed"
            told.append(int.from_bytes(packet[26:28], "big"))
        else:
            watch(packet, now_ns)

    end.on_packet = arrived
    end.submit([udp_frame(0, size, 9) for size in sizes])
    end.on_packet = watch
    return told


def test_a_smaller_mtu_is_found_and_told_to_those_who_send_more() -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS, mtu_bytes=1400)])
    ledger = Ledger(sim)
    sim.run(5 * SECOND)
    assert 1400 - 16 < mtu_of(sim.client, "a") <= 1400
    (told,) = icmp_mtus(sim.client, [1432])
    assert 1280 <= told < 1400 - 60
    stream = ledger.stream()
    ledger.send(stream, 3, told)
    sim.run(SECOND)
    assert stream.lost == [], "what ICMP promised passes, and nothing is cut"
    assert sim.client.tunnel.counters.too_big_packets == 1


def test_a_link_of_smaller_mtu_beside_another_carries_what_fits() -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 10 * MS, mtu_bytes=1400)])
    ledger = Ledger(sim)
    sim.run(5 * SECOND)
    stream = ledger.stream()
    ledger.send_steadily(stream, 25e6, 1200, until_ns=sim.now_ns + 3 * SECOND)
    sim.run(5 * SECOND)
    assert stream.lost == []
    assert min(link.up.carried_bytes for link in sim.links.values()) > 1_000_000


@pytest.mark.parametrize("dead_s", [4, 9, 21, 33])
def test_a_link_that_was_dead_at_first_gets_its_full_size(dead_s: int) -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 10 * MS)])
    sim.links["b"].cut()
    sim.run(dead_s * SECOND)
    sim.links["b"].heal()
    sim.run(8 * SECOND)
    assert [mtu_of(end, "b") for end in (sim.client, sim.server)] == [1500, 1500]


def test_an_mtu_that_shrinks_under_way_is_noticed() -> None:
    sim, ledger, _ = busy(1e6)
    for link in sim.links.values():
        for path in link.paths:
            path.mtu_bytes = 1400
    sim.run(5 * SECOND)
    assert all(mtu_of(sim.client, name) <= 1400 for name in "ab")
    assert all(link.state == LinkState.UP for link in sim.client.tunnel.links)
    small = ledger.stream(port=5)
    ledger.send_steadily(small, 2e6, 1250, until_ns=sim.now_ns + 2 * SECOND)
    sim.run(4 * SECOND)
    assert small.lost == []


@pytest.mark.parametrize("seed", range(4))
def test_loss_is_not_taken_for_a_smaller_mtu(seed: int) -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS, loss_ratio=0.1)], seed)
    ledger = Ledger(sim)
    sim.run(2 * SECOND)
    ledger.send_steadily(ledger.stream(), 1e5, 1000)
    sim.run(120 * SECOND)
    assert mtu_of(sim.client, "a") == 1500
