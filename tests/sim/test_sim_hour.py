"""Hours of bad network by seed: whatever the links do, nothing is delivered twice, disordered, held or lost unseen."""

from __future__ import annotations

import random

import pytest

from mlvpn.core.link import LinkState
from sim.ledger import Ledger, Stream, hold_bound_ns, longest_held_ns
from sim.simulator import MS, SECOND, Path, SimLink, Simulator, sim_link

RETURN_NS = 10 * SECOND
"""So long after a link is whole again the tunnel works at the latest: a slow PING, three answers."""


class Weather:
    """What happens to the links: something every few seconds, and now and then to a process."""

    def __init__(self, sim: Simulator, ledger: Ledger, seed: int) -> None:
        self.sim = sim
        self.ledger = ledger
        self.random = random.Random(seed)
        self.whole_since_ns = dict.fromkeys(sim.links, sim.now_ns)
        self.happened: dict[str, int] = {}
        self.ends_ns = 1 << 62
        sim.after(SECOND, self._happen)

    def _happen(self) -> None:
        if self.sim.now_ns >= self.ends_ns:
            return
        link = self.random.choice(list(self.sim.links.values()))
        path = self.random.choice(link.paths)
        events = [self.cut, self.cut_one_way, self.flap, self.lose, self.jitter, self.slow, self.delay, self.rebind]
        if self.random.random() < 0.03:
            self.restart()
        else:
            event = self.random.choice(events)
            self.happened[event.__name__] = self.happened.get(event.__name__, 0) + 1
            event(link, path)
        self.sim.after(self.random.randrange(SECOND, 5 * SECOND), self._happen)

    def _disturbed(self, link: SimLink) -> None:
        self.whole_since_ns[link.name] = self.sim.now_ns

    def _heal(self, link: SimLink) -> None:
        link.heal()
        self._disturbed(link)

    def cut(self, link: SimLink, path: Path) -> None:
        link.cut()
        self.sim.after(self.random.randrange(100 * MS, 12 * SECOND), self._heal, link)

    def cut_one_way(self, link: SimLink, path: Path) -> None:
        path.up = False
        self.sim.after(self.random.randrange(100 * MS, 12 * SECOND), self._heal, link)

    def flap(self, link: SimLink, path: Path) -> None:
        for _ in range(self.random.randrange(2, 6)):
            at_ns = self.random.randrange(3 * SECOND)
            self.sim.after(at_ns, link.cut)
            self.sim.after(at_ns + self.random.randrange(20 * MS, SECOND), self._heal, link)

    def lose(self, link: SimLink, path: Path) -> None:
        path.loss_ratio = self.random.choice((0.0, 0.0, 0.003, 0.02, 0.05))
        path.reorder_ratio = self.random.choice((0.0, 0.0, 0.05))

    def jitter(self, link: SimLink, path: Path) -> None:
        path.jitter_ns = self.random.choice((0, 0, 5 * MS, 15 * MS))

    def slow(self, link: SimLink, path: Path) -> None:
        path.rate_bps = self.random.choice((3e6, 10e6, 20e6, 50e6))

    def delay(self, link: SimLink, path: Path) -> None:
        path.delay_ns = self.random.randrange(5 * MS, 80 * MS)

    def rebind(self, link: SimLink, path: Path) -> None:
        self.sim.rebind(link.name)
        self._disturbed(link)

    def restart(self) -> None:
        mode = self.random.choice(("client", "server"))
        self.happened[mode] = self.happened.get(mode, 0) + 1
        self.ledger.restart(mode)
        for link in self.sim.links.values():
            self._disturbed(link)

    def should_work(self) -> bool:
        """Say whether some link has been whole for long enough."""
        return any(
            link.whole and self.sim.now_ns - self.whole_since_ns[name] > RETURN_NS
            for name, link in self.sim.links.items()
        )

    def clear_up(self) -> None:
        self.ends_ns = self.sim.now_ns
        for link in self.sim.links.values():
            link.heal()
            for path in link.paths:
                path.loss_ratio = path.reorder_ratio = 0.0


class Traffic:
    """A little all the time, a burst now and then, both directions."""

    def __init__(self, sim: Simulator, ledger: Ledger, seed: int) -> None:
        self.sim = sim
        self.ledger = ledger
        self.random = random.Random(seed)
        self.ends_ns = 1 << 62
        self.pings = [ledger.stream(to_client, 1) for to_client in (False, True)]
        self.bulk = [ledger.stream(to_client, 2) for to_client in (False, True)]
        self._ping()
        for stream in self.bulk:
            self._burst(stream)

    def _ping(self) -> None:
        if self.sim.now_ns < self.ends_ns:
            for stream in self.pings:
                self.ledger.send(stream, 1, 800)
            self.sim.after(200 * MS, self._ping)

    def _burst(self, stream: Stream) -> None:
        """A third of a second of 2.4 to 10 Mbit/s; without a longer pause than the packets' order survives."""
        interval_ns = self.random.randrange(2 * MS, 8 * MS)
        for number in range(60):
            self.sim.after(number * interval_ns, self._send, stream)
        self.sim.after(self.random.randrange(5 * SECOND, 12 * SECOND), self._burst, stream)

    def _send(self, stream: Stream) -> None:
        if self.sim.now_ns < self.ends_ns:
            self.ledger.send(stream, 2)


def watch(sim: Simulator, ledger: Ledger, weather: Weather, traffic: Traffic) -> None:
    """Check what must hold at every moment."""
    for end in (sim.client, sim.server):
        held_ns = longest_held_ns(end)
        assert held_ns <= hold_bound_ns(end), f"a piece has been held for {held_ns / MS:.0f} ms"
        for link in end.tunnel.links:
            assert len(link._pings) <= 64
            assert len(link.receiver._gaps) <= 1024
    if weather.should_work():
        for stream in traffic.pings:
            newest = max(stream.arrived_ns, default=0)
            silent_ns = sim.now_ns - stream.sent_ns[newest]
            assert silent_ns < 3 * SECOND, f"nothing came for {silent_ns / SECOND:.1f} s though a link is whole"


@pytest.mark.parametrize("seed", range(6))
def test_ten_minutes_of_flapping_links_loss_reordering_and_address_changes(seed: int) -> None:
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 10e6, 40 * MS), sim_link("c", 30e6, 25 * MS)], seed)
    ledger = Ledger(sim)
    weather = Weather(sim, ledger, seed)
    traffic = Traffic(sim, ledger, seed)
    for _ in range(600 * 10):
        sim.run(100 * MS)
        watch(sim, ledger, weather, traffic)
    weather.clear_up()
    sim.run(RETURN_NS)
    traffic.ends_ns = sim.now_ns
    sim.run(5 * SECOND)
    ledger.check_account()
    assert all(link.state == LinkState.UP for end in (sim.client, sim.server) for link in end.tunnel.links)
    for stream in (*traffic.pings, *traffic.bulk):
        assert len(stream.lost) < len(stream.sent_ns) // 20
        assert stream.disordered < len(stream.sent_ns) // 50, "only what came after the bound, or began a burst"
    assert {"client", "server", "rebind", "flap", "cut_one_way"} <= weather.happened.keys()
