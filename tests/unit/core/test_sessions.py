"""Which keys seal and which still open, through rekeys, restarts and time."""

from __future__ import annotations

import pytest

from mlvpn.core import sessions as module
from mlvpn.core.agreement import Session
from mlvpn.core.handshake import REKEY_AFTER_DATAGRAMS, REKEY_AFTER_NS
from mlvpn.core.sessions import KEEP_PREVIOUS_NS, Sessions
from mlvpn.crypto.aead import Cipher
from mlvpn.wire.handshake import Feature

NOW_NS = 10**12


def session(index: int, *, continued: bool = True) -> Session:
    return Session(
        send_key=bytes((index,)) * 32,
        receive_key=bytes((index + 100,)) * 32,
        local_index=index,
        remote_index=index + 1000,
        cipher=Cipher.AES_256_GCM,
        cleartext=False,
        peer_instance=1,
        peer_features=Feature.SLICES,
        peer_mtu_bytes=1432,
        continued=continued,
        initiator=True,
    )


@pytest.fixture
def held() -> Sessions:
    """Two sessions: 1 is used, 2 has been agreed."""
    held = Sessions()
    held.add(session(1, continued=False))
    held.use(1, NOW_NS)
    held.add(session(2))
    return held


def test_what_is_agreed_can_be_opened_before_it_is_used(held: Sessions) -> None:
    assert held.opener(2) is not None
    assert held.is_pending(2)
    assert not held.is_pending(1)
    assert held.current is not None
    assert held.current.local_index == 1


def test_a_rekey_loses_nothing(held: Sessions) -> None:
    held.use(2, NOW_NS + 5)
    assert held.is_current(2)
    assert held.opener(1) is not None
    assert not held.is_pending(1), "the previous one must not become the current one again"
    held.tick(NOW_NS + 5 + KEEP_PREVIOUS_NS - 1)
    assert held.opener(1) is not None
    held.tick(NOW_NS + 5 + KEEP_PREVIOUS_NS)
    assert held.opener(1) is None
    assert held.opener(2) is not None


def test_an_association_is_as_old_as_its_first_session(held: Sessions) -> None:
    held.use(2, NOW_NS + 5)
    assert held.established_ns == NOW_NS
    held.add(session(3, continued=False))
    held.use(3, NOW_NS + 9)
    assert held.established_ns == NOW_NS + 9


def test_the_keys_of_an_association_that_is_over_open_nothing(held: Sessions) -> None:
    held.add(session(3, continued=False))
    held.use(3, NOW_NS)
    held.keep_only(3)
    assert (held.opener(1), held.opener(2)) == (None, None)
    held.end()
    assert (held.opener(3), held.current, held.sealer, held.established_ns) == (None, None, None, None)


def test_a_session_that_was_never_used_can_be_retired_the_current_one_cannot(held: Sessions) -> None:
    held.retire(1)
    held.retire(2)
    assert held.opener(1) is not None
    assert held.opener(2) is None


def test_new_keys_are_due_by_time_or_volume(held: Sessions) -> None:
    assert not held.rekey_due(REKEY_AFTER_DATAGRAMS - 1, NOW_NS + REKEY_AFTER_NS - 1)
    assert held.rekey_due(REKEY_AFTER_DATAGRAMS, NOW_NS)
    assert held.rekey_due(0, NOW_NS + REKEY_AFTER_NS)
    held.use(2, NOW_NS + REKEY_AFTER_NS)
    assert not held.rekey_due(0, NOW_NS + REKEY_AFTER_NS)
    assert not Sessions().rekey_due(REKEY_AFTER_DATAGRAMS, 2 * NOW_NS), "nothing to renew"


def test_volume_counts_from_the_last_keys_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """lseq goes on over a rekey, the count for the next one must not."""
    from sim.simulator import MS, SECOND, Simulator, sim_link, udp_frame

    monkeypatch.setattr(module, "REKEY_AFTER_DATAGRAMS", 300)
    sim = Simulator([sim_link("a", 20e6, 5 * MS)])
    sim.run(2 * SECOND)
    first = sim.client.tunnel.sessions.current
    for number in range(400):
        sim.after(number * MS, lambda number=number: sim.client.submit([udp_frame(number)]))  # type: ignore[misc]
    sim.run(3 * SECOND)
    second = sim.client.tunnel.sessions.current
    assert second is not first
    sim.run(20 * SECOND)
    assert sim.client.tunnel.sessions.current is second, "an idle tunnel needs no new keys"
    assert sim.client.link_changes() == [(sim.client.link_changes()[0][0], "a", "up")]
