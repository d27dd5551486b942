"""The timers a tunnel remembers, against those it would work out anew, after everything that happens to it."""

from __future__ import annotations

import pytest

from sim.ledger import Ledger
from sim.simulator import MS, SECOND, End, Simulator, sim_link


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Compare whenever an end asks when to wake; say each time whether there was something to remember."""
    remembered: list[bool] = []
    arm = End.arm

    def compare(end: End) -> None:
        tunnel = end.tunnel
        due_ns = tunnel.next_deadline_ns()
        kept_ns, tunnel._timers_ns = tunnel._timers_ns, 0
        anew_ns = tunnel.next_deadline_ns()
        remembered.append(kept_ns != tunnel._timers_ns)
        tunnel._timers_ns = kept_ns
        if due_ns is not None and anew_ns is not None:
            assert due_ns <= anew_ns, f"{(due_ns - anew_ns) / MS:.3f} ms too late"
        arm(end)

    monkeypatch.setattr(End, "arm", compare)
    return remembered


@pytest.mark.parametrize("seed", [1, 2])
def test_no_timer_is_remembered_too_late(compared: list[bool], seed: int) -> None:
    links = [sim_link("a", 20e6, 10 * MS, loss_ratio=0.02), sim_link("b", 10e6, 40 * MS, jitter_ns=5 * MS)]
    sim = Simulator(links, seed)
    ledger = Ledger(sim)
    sim.run(SECOND)
    for to_client in (False, True):
        ledger.send_steadily(ledger.stream(to_client), 4e6, until_ns=sim.now_ns + 8 * SECOND)
    sim.run(SECOND)
    links[0].cut()
    sim.run(2 * SECOND)
    links[0].heal()
    sim.rebind("b")
    sim.run(2 * SECOND)
    ledger.restart("server")
    sim.run(4 * SECOND)
    sim.client.tunnel.path_mtu("a", 1400, sim.now_ns)
    sim.client.flush()
    sim.run(SECOND)
    assert any(compared), "nothing was ever remembered"
