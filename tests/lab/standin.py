"""A stand-in core, unencrypted and without bonding, to test the daemon alone; and the daemon that runs it.

Every link says hello once a second and on the first answer is up; after three silent seconds it is down. Packets go
over the first link that is up. ``python standin.py ...`` takes the options of ``mlvpn``.
"""

from __future__ import annotations

import time
from typing import Any

from mlvpn.config.model import Config
from mlvpn.core.burst_io import Delivery, ReceivedTrain, Train
from mlvpn.core.events import Address, Event, LinkDown, LinkUp, SocketWanted
from mlvpn.core.interface import CoreSnapshot
from mlvpn.wire.vnet import NO_OFFLOAD, segment

HELLO, DATA, BYE = b"H", b"D", b"B"
SECOND_NS = 1_000_000_000


class StandInLink:
    def __init__(self, name: str) -> None:
        self.name = name
        self.opened = False
        self.remote: Address | None = None
        self.heard_ns: int | None = None
        self.state = "down"
        self.reason: str | None = "starting"


class StandInCore:
    def __init__(self, config: Config) -> None:
        self._links = {link.name: StandInLink(link.name) for link in config.links}
        self._hello_ns = time.monotonic_ns()
        self._sends: list[Train] = []
        self._deliveries: list[Delivery] = []
        self._events: list[Event] = []

    def receive(self, train: ReceivedTrain, now_ns: int) -> None:
        link = self._links[train.link]
        for start in range(0, len(train.data), train.datagram_bytes):
            datagram = train.data[start : start + train.datagram_bytes]
            link.remote = train.source
            if datagram[:1] == BYE:
                self._down(link, "the peer said goodbye")
                continue
            link.heard_ns = now_ns
            if link.state != "up":
                link.state, link.reason = "up", None
                self._events.append(LinkUp(link.name))
                self._send(link, HELLO)
            if datagram[:1] == DATA:
                self._deliveries.append([NO_OFFLOAD + datagram[1:]])

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        for link in self._links.values():
            if link.state == "up":
                for frame in frames:
                    for packet in segment(frame):
                        self._send(link, DATA + packet[len(NO_OFFLOAD) :])
                return

    def tick(self, now_ns: int) -> None:
        if now_ns < self._hello_ns:
            return
        self._hello_ns = now_ns + SECOND_NS
        for link in self._links.values():
            if link.heard_ns is not None and now_ns - link.heard_ns > 3 * SECOND_NS:
                self._down(link, "silence")
                self._events.append(SocketWanted(link.name))
            elif link.opened and link.remote is not None:
                self._send(link, HELLO)

    def next_deadline_ns(self) -> int | None:
        return self._hello_ns

    def take_sends(self) -> list[Train]:
        taken, self._sends = self._sends, []
        return taken

    def take_deliveries(self) -> list[Delivery]:
        taken, self._deliveries = self._deliveries, []
        return taken

    def take_events(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    def socket_opened(self, link: str, local: Address, remote: Address | None, now_ns: int) -> None:
        self._links[link].opened = True
        self._links[link].remote = remote
        if remote is not None:
            self._send(self._links[link], HELLO)

    def socket_failed(self, link: str, reason: str, now_ns: int) -> None:
        self._links[link].reason = reason

    def link_lost(self, link: str, reason: str, now_ns: int) -> None:
        self._links[link].opened = False
        self._down(self._links[link], reason)

    def path_mtu(self, link: str, mtu_bytes: int, now_ns: int) -> None:
        pass

    def reconfigure(self, config: Config, now_ns: int) -> None:
        self._links = {link.name: self._links.get(link.name) or StandInLink(link.name) for link in config.links}

    def close(self, now_ns: int) -> None:
        for link in self._links.values():
            if link.remote is not None:
                self._send(link, BYE)

    def snapshot(self, now_ns: int) -> CoreSnapshot:
        links: Any = [{"name": link.name, "state": link.state, "reason": link.reason} for link in self._links.values()]
        return {"protocol": "stand-in", "links": links, "counters": {}, "drops": {}}

    def _send(self, link: StandInLink, datagram: bytes) -> None:
        self._sends.append(Train(link.name, link.remote, datagram, len(datagram)))

    def _down(self, link: StandInLink, reason: str) -> None:
        link.heard_ns, link.reason = None, reason
        if link.state == "up":
            link.state = "down"
            self._events.append(LinkDown(link.name, reason))


async def make_stand_in(config: Config) -> StandInCore:
    return StandInCore(config)


if __name__ == "__main__":
    from mlvpn.cli import main
    from mlvpn.daemon import protocols

    protocols.make_core = make_stand_in
    main()
