"""[filters] in the native tunnel: what matches goes over its link alone, and everything else as before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlvpn.core.events import LinkDown
from sim.simulator import MS, SECOND, End, SimLink, Simulator, sim_link, udp_frame, udp_number

VOICE, BULK = 5060, 8000
SLOW = "slow"


def voice_goes_over(*links: str) -> object:
    """Stand in for libpcap: the same answer as `LINK = udp src port 5060` lines."""

    def matching(packet: bytes) -> Iterator[str]:
        if int.from_bytes(packet[20:22], "big") == VOICE:
            yield from links

    return matching


def running(*links: SimLink, filtered: tuple[str, ...] = (SLOW,)) -> Simulator:
    sim = Simulator(list(links))
    sim.client.tunnel.set_filters(voice_goes_over(*filtered))  # type: ignore[arg-type]
    sim.run_until(
        lambda: len([change for change in sim.client.link_changes() if change[2] == "up"]) == len(links), SECOND
    )
    return sim


def received(end: End) -> list[tuple[int, int]]:
    """Collect (port, number) of what comes out at an end."""
    got: list[tuple[int, int]] = []
    end.on_packet = lambda packet, now_ns: got.append(udp_number(packet))
    return got


def carried(sim: Simulator) -> dict[str, int]:
    return {link.name: link.up.carried_bytes for link in sim.links.values()}


def send(sim: Simulator, port: int, count: int, size: int, every_ns: int, first: int = 0) -> None:
    for number in range(first, first + count):
        sim.client.submit([udp_frame(number, size, port)])
        sim.run(every_ns)


@pytest.fixture
def pair() -> Simulator:
    """A fast link, which everything prefers, and a slow one."""
    return running(sim_link("fast", 50e6, 5 * MS), sim_link(SLOW, 5e6, 40 * MS))


def test_what_matches_goes_over_its_link_and_nothing_else_does(pair: Simulator) -> None:
    got = received(pair.server)
    before = carried(pair)
    send(pair, VOICE, 100, 200, 20 * MS)
    voice = {name: size - before[name] for name, size in carried(pair).items()}
    send(pair, 53, 100, 200, 20 * MS)
    rest = {name: size - before[name] - voice[name] for name, size in carried(pair).items()}
    pair.run(SECOND)
    assert voice[SLOW] > 100 * 200 > voice["fast"]
    assert rest["fast"] > 100 * 200 > rest[SLOW]
    assert got.count((VOICE, 0)) == 1 and len(got) == 200
    assert pair.client.tunnel.counters.filtered_packets == 100


def test_without_filters_again_all_links_are_used_as_before(pair: Simulator) -> None:
    pair.client.tunnel.set_filters(None)
    before = carried(pair)
    send(pair, VOICE, 100, 200, 20 * MS)
    assert carried(pair)["fast"] - before["fast"] > 100 * 200
    assert pair.client.tunnel.counters.filtered_packets == 0


def test_the_first_filter_whose_link_is_up_wins() -> None:
    sim = running(sim_link("fast", 50e6, 5 * MS), sim_link(SLOW, 5e6, 40 * MS), filtered=("fast", SLOW))
    before = carried(sim)
    send(sim, VOICE, 50, 200, 20 * MS)
    assert carried(sim)["fast"] - before["fast"] > 50 * 200
    sim.links["fast"].cut()
    sim.run_until(lambda: any(isinstance(event, LinkDown) for _, event in sim.client.events), 60 * SECOND)
    before, got = carried(sim), received(sim.server)
    send(sim, VOICE, 50, 200, 20 * MS)
    sim.run(SECOND)
    assert carried(sim)[SLOW] - before[SLOW] > 50 * 200 and len(got) == 50


def test_packets_of_a_link_that_goes_down_arrive_over_another(pair: Simulator) -> None:
    got = received(pair.server)
    send(pair, VOICE, 20, 200, 20 * MS)
    pair.links[SLOW].cut()
    send(pair, VOICE, 200, 200, 20 * MS, first=20)
    pair.run(2 * SECOND)
    assert sorted(got) == [(VOICE, number) for number in range(220)]


def test_a_filter_leads_to_a_fallback_link_too() -> None:
    """As in MLVPN: a filter is stronger than fallback_only."""
    sim = Simulator([sim_link("fast", 50e6, 5 * MS), sim_link(SLOW, 5e6, 40 * MS)])
    sim.client.tunnel.set_filters(voice_goes_over(SLOW))  # type: ignore[arg-type]
    for link in sim.client.tunnel.links:
        link.peer_fallback = link.name == SLOW
    sim.run(SECOND)
    for link in sim.client.tunnel.links:
        link.peer_fallback = link.name == SLOW
    before, got = carried(sim), received(sim.server)
    send(sim, VOICE, 50, 1000, 5 * MS)
    sim.run(SECOND)
    assert carried(sim)[SLOW] - before[SLOW] > 50 * 1000 and len(got) == 50


def test_a_filtered_flow_beyond_its_links_rate_starves_nobody_and_stays_in_order(pair: Simulator) -> None:
    got = received(pair.server)
    for number in range(3000):  # 3 s: 11 Mbit/s of VOICE into 5 Mbit/s, 11 Mbit/s of BULK beside it
        pair.client.submit([udp_frame(number, 1400, VOICE), udp_frame(number, 1400, BULK)])
        pair.run(MS)
    in_time = sum(port == BULK for port, _ in got)
    pair.run(3 * SECOND)
    voice = [number for port, number in got if port == VOICE]
    bulk = [number for port, number in got if port == BULK]
    assert in_time > 2900 and bulk == sorted(bulk)
    assert 0.8 < len(voice) * 1400 * 8 / (5e6 * 6) < 1 and voice == sorted(voice)
    assert pair.client.tunnel.counters.queue_dropped_packets > 100
