"""The bridge between the kernel and the core: bursts in, bursts out, one timer. HOT PATH.

Owns the readers on the TUN device and the link sockets, and the order of things after each of them:

    readable --> read a burst --> core.submit / core.receive --> when all have been read: flush
    flush: deliveries, sends, events out of the core; the timer armed for the core's next deadline

Decides nothing: what to send is the core's matter, what events mean is the worker's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from mlvpn.core.burst_io import Train
from mlvpn.core.events import Event
from mlvpn.core.interface import Core
from mlvpn.daemon.loop import PacketSelector
from mlvpn.system.tun import Tun
from mlvpn.system.udp import LinkSocket, SendFailed, TooBig
from mlvpn.units import NS_PER_MS

_link_of = attrgetter("link")


READ_FRAMES: Final = 256
"""One TUN read burst ends here, or with the core's ``submit_bytes``."""
RECEIVE_TRAINS: Final = 256
RECEIVE_BYTES: Final = 1 << 20
"""One link's burst ends here, so that the others and the device are served in between."""
MODERATE_BELOW_NS: Final = 2 * NS_PER_MS
"""More than five hundred wakes a second, and each is followed by a rest."""
REST_NS: Final = NS_PER_MS * 4 // 5
"""A rest as long as the work before it, up to 2 ms, saves another twentieth of the CPU time at 110 Mbit/s over two
links, and costs 6 ms at the 99th percentile of a ping beside that (bench.bond --rows 4)."""
SMALL_TRAIN_BYTES: Final = 8 << 10
"""From here on longer trains are not cheaper enough to wait for."""
FLUSH_ROUNDS: Final = 4
"""What a core has to send is taken in so many parts at most, 2 MB of long trains, then readers get their turn: where a
link is faster than the processor there would be no end of it, and whatever comes would have to wait."""
TIMER_GRAIN_NS: Final = NS_PER_MS
"""A timer that goes off this soon serves every deadline: asking for the next one after each burst costs more."""


class Bridge:
    """Carries bursts between one core, one device and the sockets of the links."""

    def __init__(
        self,
        core: Core,
        device: Tun,
        selector: PacketSelector,
        happened: Callable[[Event], None],
        failed: Callable[[SendFailed], None],
    ) -> None:
        """``selector``: that of the running loop."""
        self._core = core
        self._device = device
        self._happened = happened
        self._failed = failed
        self.unsent_datagrams: Counter[str] = Counter()
        """Link -> datagrams the core sent while the link had no socket; the core learns of them as of any loss."""
        self._sockets: dict[str, LinkSocket] = {}
        self._woken_ns = 0
        self._began_ns = 0
        self._train_bytes = self._trains = 0
        """What has passed the sockets since the last rest could have been."""
        self._round_is_over = True
        self._gap_ns = 10 * NS_PER_MS
        """Smoothed time between wakes."""
        self._selector = selector
        selector.after_round = self._finish
        selector.add_reader(device.fileno(), self._device_readable)

    def describe(self, link: str) -> dict[str, Any]:
        """Return what `status` shows of a link's socket, JSON-able."""
        link_socket = self._sockets.get(link)
        return {
            "socket": link_socket.describe() if link_socket else None,
            "unsent_datagrams": self.unsent_datagrams[link],
        }

    def attach(self, link: str, link_socket: LinkSocket) -> None:
        """Carry a link's datagrams over this socket from now on."""
        self.detach(link)
        self._sockets[link] = link_socket
        self._selector.add_reader(link_socket.fileno(), partial(self._socket_readable, link_socket))

    def detach(self, link: str) -> None:
        """Close a link's socket, if it has one."""
        old = self._sockets.pop(link, None)
        if old is not None:
            self._selector.remove_reader(old.fileno())
            old.close()

    def close(self) -> None:
        """Stop carrying; the device stays open."""
        self._selector.remove_reader(self._device.fileno())
        self._selector.after_round = self._selector.deadline_ns = None
        for link in list(self._sockets):
            self.detach(link)

    def _device_readable(self) -> None:
        self._wake()
        self._core.submit(self._device.read_burst(READ_FRAMES, self._core.submit_bytes), self._woken_ns)

    def _socket_readable(self, link_socket: LinkSocket) -> None:
        self._wake()
        for train in link_socket.receive_burst(RECEIVE_TRAINS, RECEIVE_BYTES):
            self._trains += 1
            self._train_bytes += len(train.data)
            self._core.receive(train, self._woken_ns)

    def _wake(self) -> None:
        """Note the time, and at the first of a round how long after the round before it comes."""
        now_ns = self._woken_ns = time.monotonic_ns()
        if self._round_is_over:
            self._round_is_over = False
            self._gap_ns += (min(now_ns - self._began_ns, 10 * NS_PER_MS) - self._gap_ns) // 8
            self._began_ns = now_ns

    def _finish(self) -> None:
        """Flush, then let trains grow if many short ones come and go: network cards call it moderation.

        A wake costs as much as a dozen packets, a train as much as twenty of its datagrams. Idle traffic never waits,
        for its wakes are far apart, nor does bulk over fast links, for its trains are long.
        """
        deadline_ns = self._selector.deadline_ns
        if deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
            self._wake()
            self._selector.deadline_ns = None
            self._core.tick(self._woken_ns)
        self._round_is_over = True
        may_have_more = self.flush()
        short = self._train_bytes < SMALL_TRAIN_BYTES * self._trains
        self._train_bytes = self._trains = 0
        if may_have_more:
            self._selector.deadline_ns = self._woken_ns  # the next round begins at once
        elif short and self._gap_ns < MODERATE_BELOW_NS and self._core.may_rest:
            time.sleep(REST_NS / 1e9)

    def flush(self) -> bool:
        """Take everything out of the core; to be called after anything was put in. Say whether there may be more."""
        core = self._core
        self._deliver()
        for _ in range(FLUSH_ROUNDS):
            if not (sends := core.take_sends(time.monotonic_ns())):
                break
            self._trains += len(sends)
            self._train_bytes += sum([len(train.data) for train in sends])
            for link, trains in groupby(sends, _link_of):
                self._send(link, trains)
        self._deliver()  # what sending has brought about: "too big"
        for event in core.take_events():
            self._happened(event)
        deadline_ns = self._selector.deadline_ns
        if deadline_ns is None or deadline_ns > time.monotonic_ns() + TIMER_GRAIN_NS:
            self._selector.deadline_ns = core.next_deadline_ns()
        return bool(sends)

    def _deliver(self) -> None:
        deliveries = self._core.take_deliveries()
        if deliveries:
            self._device.write_burst(deliveries)

    def _send(self, link: str, trains: Iterable[Train]) -> None:
        link_socket = self._sockets.get(link)
        if link_socket is None:
            self.unsent_datagrams[link] += sum(-(-len(train.data) // train.datagram_bytes) for train in trains)
            return
        for problem in link_socket.send_burst(trains):
            match problem:
                case TooBig():
                    self._core.path_mtu(link, problem.mtu_bytes, time.monotonic_ns())
                case SendFailed():
                    self._failed(problem)
