"""Which links there are and which numbers they have: given by the client, learned by the server, never used twice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlvpn.config import LinkConfig, parse
from mlvpn.core.roster import MAX_LINKS, Roster
from sim.simulator import MS, SECOND, Simulator, sim_link

TEXT = """
[general]
mode = server
password = "x"
[a]
bindport = 1
[b]
bindport = 2
"""
LINKS = parse(TEXT, "x").links
NOW_NS = 10**12


def roster(is_client: bool, links: tuple[LinkConfig, ...] = LINKS) -> Roster:
    return Roster(links, is_client, bytes, NOW_NS)


def numbers(links: Roster) -> dict[str, int]:
    assert links.by_number == {link.number: link for link in links.links if link.number >= 0}
    return {link.name: link.number for link in links.links}


def test_a_client_numbers_its_links_by_their_place_and_gives_no_number_twice() -> None:
    links = roster(True)
    assert numbers(links) == {"a": 0, "b": 1}
    (gone,) = links.reconfigure(LINKS[:1], NOW_NS)
    assert gone.name == "b" and numbers(links) == {"a": 0}
    assert links.reconfigure(LINKS, NOW_NS) == []
    assert numbers(links) == {"a": 0, "b": 2}


def test_a_client_learns_no_number() -> None:
    assert roster(True).learn(5, "a", NOW_NS) is None


def test_a_server_learns_the_numbers_by_the_sockets_that_they_come_in_on() -> None:
    links = roster(False)
    assert numbers(links) == {"a": -1, "b": -1}
    first = links.learn(3, "b", NOW_NS)
    second = links.learn(0, "b", NOW_NS)
    assert first is not None and second is not None and first is not second
    assert numbers(links) == {"a": -1, "b": 3, "b/0": 0}
    assert second.socket == first.socket == "b"
    assert links.learn(1, "no such socket", NOW_NS) is None


def test_a_further_link_of_a_socket_can_be_sent_on_at_once() -> None:
    links = roster(False)
    links.links[0].opened(("10.0.0.2", 1), None, NOW_NS)
    links.learn(0, "a", NOW_NS)
    further = links.learn(1, "a", NOW_NS)
    assert further is not None and further.socket_open and further.local == ("10.0.0.2", 1)


def test_a_server_makes_room_for_no_more_than_one_client_may_have() -> None:
    links = roster(False)
    assert links.learn(MAX_LINKS, "a", NOW_NS) is None
    assert all(links.learn(number, "a", NOW_NS) for number in range(MAX_LINKS))
    assert len(links.by_number) == MAX_LINKS


def test_with_a_new_association_a_server_forgets_what_it_learned_and_a_client_nothing() -> None:
    server, client = roster(False), roster(True)
    shared = server.links
    server.learn(0, "a", NOW_NS)
    server.learn(1, "a", NOW_NS)
    server.links[0].remote = client.links[0].remote = ("10.0.0.1", 1)
    server.restart(NOW_NS)
    client.restart(NOW_NS)
    assert numbers(server) == {"a": -1, "b": -1} and server.links is shared and server.links[0].remote is None
    assert numbers(client) == {"a": 0, "b": 1} and client.links[0].remote == ("10.0.0.1", 1)


def test_a_reload_reaches_the_links_that_stay() -> None:
    links = roster(False)
    stays = links.links[0]
    changed = replace(LINKS[0], bandwidth_upload_bps=5_000_000)
    links.reconfigure((changed, LINKS[1]), NOW_NS)
    assert links.links[0] is stays and stays.config == changed and stays.pacer.ceiling_bps == 5_000_000


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_link_removed_and_added_again_repeats_no_lseq(mode: str) -> None:
    """A number keeps its lseq and its window for as long as the keys: no nonce is used twice, no replay is new."""
    sim = Simulator([sim_link("a", 20e6, 10 * MS), sim_link("b", 20e6, 10 * MS)])
    sim.run(2 * SECOND)
    end = sim.client if mode == "client" else sim.server
    whole = sim.config(mode)
    old = next(link for link in end.tunnel.links if link.name == "b")
    end.tunnel.reconfigure(replace(whole, links=whole.links[:1]), sim.now_ns)
    end.tunnel.reconfigure(whole, sim.now_ns)
    local = ("10.0.0.1", 40000) if mode == "client" else ("10.0.0.2", 5080)
    remote = ("10.0.0.2", 5080) if mode == "client" else None
    end.tunnel.socket_opened("b", local, remote, sim.now_ns)
    end.flush()
    sim.run(1 * SECOND)
    new = next(link for link in end.tunnel.links if link.name == "b")
    assert new is not old
    assert new.number != old.number or (new.next_lseq >= old.next_lseq and new.receiver is old.receiver)
