"""The links of one tunnel: which there are, and which number each one has.

The client numbers its links in the order of the configuration. A server learns a number from the first authentic
datagram that carries it and gives the link the name of the socket it came in on; where several links come in on one
socket, the further ones get the number added to their name. Numbers never change within an association, and one seen
again goes on where it stopped.

Owns the list of links, which all parts of a tunnel share and only this one changes, and their numbers. Does not own
what a link knows (`link`) or which state it is in (`link_watch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from mlvpn.config import LinkConfig
from mlvpn.core.agreement import Random
from mlvpn.core.link import Link

MAX_LINKS = 64
"""Links one client may have; a server makes room for no more."""


class Roster:
    """All links, by place in the configuration and by number."""

    def __init__(self, configs: Sequence[LinkConfig], is_client: bool, random: Random, now_ns: int) -> None:
        self.links: list[Link] = []
        self.by_number: dict[int, Link] = {}
        self._is_client = is_client
        self._random = random
        self._new_numbers = count()
        self._removed: dict[int, Link] = {}  # a number seen again goes on where it stopped: no nonce, no replay twice
        for config in configs:
            self._add_configured(config, now_ns)

    def _add_configured(self, config: LinkConfig, now_ns: int) -> None:
        self._add(config, next(self._new_numbers) if self._is_client else -1, now_ns)

    def _add(self, config: LinkConfig, number: int, now_ns: int) -> Link:
        link = Link(config, number, self._random, now_ns)
        self.links.append(link)
        if number >= 0:
            self._give_number(link, number)
        return link

    def _give_number(self, link: Link, number: int) -> None:
        link.number, self.by_number[number] = number, link
        if before := self._removed.pop(number, None):
            link.next_lseq, link.receiver = before.next_lseq, before.receiver

    def learn(self, number: int, socket: str, now_ns: int) -> Link | None:
        """Server: give a client's link the name of the socket it uses, or of the socket and its number."""
        if self._is_client or number >= MAX_LINKS or len(self.by_number) >= MAX_LINKS:
            return None
        owner = next((link for link in self.links if link.name == socket), None)
        if owner is None:
            return None
        if owner.number < 0:
            self._give_number(owner, number)
            return owner
        link = self._add(owner.config, number, now_ns)
        link.name = f"{owner.name}/{number}"
        link.socket = owner.name
        if owner.local is not None:
            link.opened(owner.local, None, now_ns)
        return link

    def restart(self, now_ns: int) -> None:
        """Begin a new association; a server forgets the numbers, and where its peer was."""
        self._removed.clear()
        if not self._is_client:
            self.by_number.clear()
            self.links[:] = [link for link in self.links if link.name == link.socket]
        for link in self.links:
            if not self._is_client:
                link.number = -1
                link.remote = None
            link.restart(now_ns)

    def reconfigure(self, configs: Sequence[LinkConfig], now_ns: int) -> list[Link]:
        """Follow the configuration, where links are told apart by name; return those that are no longer in it."""
        wanted = {config.name: config for config in configs}
        gone = [link for link in self.links if link.socket not in wanted]
        for link in gone:
            self.links.remove(link)
            if self.by_number.pop(link.number, None) is not None:
                self._removed[link.number] = link
        known = {link.socket for link in self.links}
        for link in self.links:
            link.reconfigure(wanted[link.socket])
        for config in configs:
            if config.name not in known:
                self._add_configured(config, now_ns)
        return gone
