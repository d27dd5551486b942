"""The sending half of a tunnel: from the queue to sealed trains.

In the order in which a packet meets it: ``submit`` (queue) -> ``pump`` (repairs first, then sparse packets, then the
ordered flows) -> a link's sent log -> ``on_report`` (acknowledged, or lost and so repaired) -> ``relieve`` (a silent
link's traffic is rescued). ``pump`` does work per run and per decision, not per packet.

Owns queue, repairs, the trains to send and the choice of links for reports. Does not own link states (`link_watch`) or
sessions (`tunnel`), nor the choice of link for a run (`scheduler`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mlvpn.burst import Sealer
from mlvpn.core import scheduler, uso
from mlvpn.core.ack_filter import without_superseded
from mlvpn.core.burst_io import Train
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.equaliser import Equaliser
from mlvpn.core.events import Address
from mlvpn.core.flow import Flow
from mlvpn.core.gather import gather
from mlvpn.core.icmp import frame_too_big, too_big
from mlvpn.core.interface import Matching
from mlvpn.core.link import Link, LinkState
from mlvpn.core.pacer import Phase
from mlvpn.core.packet import ETHERNET_BYTES, VNET_BYTES, Packet
from mlvpn.core.queue import FlowQueue
from mlvpn.core.recovery import Repair, RepairQueue, SentRun, hopeless
from mlvpn.core.run import Run, continues, cut_train
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_MS
from mlvpn.wire.frame import (
    DATA_HEAD,
    GSEQ_MODULUS,
    ITEM_HEAD,
    REPORTS_PER_DATAGRAM,
    SLICE_HEAD,
    Gone,
    Kind,
    LinkReport,
    pack_feedback,
    pack_gone,
    pack_hold,
)
from mlvpn.wire.header import ts_us
from mlvpn.wire.vnet import NO_OFFLOAD, segment

WAIT_FOR_LINK_NS: Final = 500 * NS_PER_MS
"""How long packets wait when no link carries anything: long enough for a reconnect, no longer than TCP's patience."""
LARGEST_BYTES: Final = 1500
MIN_SLEEP_NS: Final = NS_PER_MS // 2
"""Pacing wakes no sooner than this: waking costs more than the burst it saves."""
PUMP_TRAINS: Final = 8
"""So many are sealed before they are sent: the first reach the peer while the next are made, and every time stamp is
that of a moment shortly before its departure."""
TURN_NS: Final = NS_PER_MS * 2 // 5
"""A link that may send takes so much of its rate for each of the links in use, if need be on credit. Trains cost more
than datagrams, and the more links there are, the shorter they would be: sixteen links of 20 Mbit/s sent one datagram at
a time and carried a quarter of their sum. With two links it is as long as the daemon rests."""
TURN_BYTES: Final = 8 << 10
"""And no more than this: longer trains are not cheaper enough."""
DUPLICATE_TRIES: Final = 2
"""From this try on a repair goes over two links at once: two losses in a row are no accident."""


class Sender:
    """Everything between ``submit`` and ``take``."""

    def __init__(self, links: list[Link], tap: bool, counters: TunnelCounters, reply: Callable[[bytes], None]) -> None:
        """``links`` is the tunnel's own list, which it keeps current; ``reply`` writes a TUN frame back to its
        source."""
        self._links = links
        self._link_header_bytes = ETHERNET_BYTES if tap else 0
        self._counters = counters
        self._reply = reply
        self._trains: list[Train] = []
        self._sparse_link: Link | None = None
        self._feedback_copied = False
        self._now_ns = 0
        self.sealer: Sealer | None = None
        self.peer_takes_slices = True
        self.matching: Matching | None = None
        self.queue = FlowQueue(counters)
        self._equaliser = Equaliser()
        self.repairs = RepairQueue()

    def restart(self) -> None:
        """Begin a new association; what waits in the queue is carried over, what was under way is given up."""
        for link in self._links:
            for repair in link.log.take_all(link.number):
                self.repairs.push(repair)
        while len(self.repairs):
            self._counters.given_up_datagrams += self.repairs.pop().run.count
        self.queue.reset_order()
        self._equaliser = Equaliser()
        self._trains.clear()

    def take(self) -> list[Train]:
        """Take the trains to send, in order."""
        taken, self._trains = self._trains, []
        return taken

    # --- in

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        """Queue TUN frames. HOT PATH."""
        counters, enqueue, header_bytes = self._counters, self.queue.enqueue, self._link_header_bytes
        if self.matching is not None:
            enqueue = self._enqueue_filtered
        if self.peer_takes_slices and len(frames) > 1:
            frames = gather(frames, header_bytes)
            if not header_bytes:
                frames = uso.join(frames)
        counters.submitted_packets += len(frames)
        counters.submitted_bytes += sum(map(len, frames)) - VNET_BYTES * len(frames)
        if len(frames) > 1:
            kept = without_superseded(frames, header_bytes)
            counters.superseded_packets += len(frames) - len(kept)
            frames = kept
        if not self.queue.backlog_bytes:
            self._note_nothing_waits(now_ns)
        for frame in frames:
            try:
                packet = Packet(frame, header_bytes)
                if packet.kind != Kind.PACKETS and not (self.peer_takes_slices and packet.slice_bytes):
                    for single in segment(frame):
                        enqueue(Packet(single, header_bytes), now_ns)
                    continue
            except (PeerError, IndexError):
                counters.malformed_packets += 1
                continue
            enqueue(packet, now_ns)

    def _enqueue_filtered(self, packet: Packet, now_ns: int) -> None:
        """Queue a packet for the link of the first filter that matches and whose link is up, else as any other."""
        assert self.matching is not None
        for name in self.matching(packet.frame[VNET_BYTES:]):
            if self._pinned_link(name) is not None:
                self._counters.filtered_packets += 1
                return self.queue.enqueue_pinned(packet, name, now_ns)
        self.queue.enqueue(packet, now_ns)

    def _pinned_link(self, pin: str) -> Link | None:
        return next((link for link in self._links if link.socket == pin and link.state == LinkState.UP), None)

    # --- out

    def pump(self, now_ns: int) -> bool:
        """Send what may be sent now, up to ``PUMP_TRAINS`` of it; return whether there may be more."""
        self._now_ns = now_ns
        if self.sealer is None:
            return False
        if not (self.queue.backlog_bytes or self.queue.sparse or len(self.repairs)):
            self._note_nothing_waits(now_ns)
            return False
        links = scheduler.eligible(self._links)
        if not links:
            return False
        if len(self.repairs):
            self._send_repairs(links, now_ns)
        if self.queue.sparse:
            self._send_sparse(links, now_ns)
        if self.queue.waiting_flows or len(self.repairs):
            self._send_flows(links, now_ns)
        else:
            self._note_nothing_waits(now_ns)
        if self.queue.bulk:
            holds = self._equaliser.update(self.queue.bulk, links, now_ns)
            if holds:
                self.send_control(links[0], pack_hold(holds), now_ns)
        return len(self._trains) >= PUMP_TRAINS

    def _send_repairs(self, links: list[Link], now_ns: int) -> None:
        gone: list[Gone] = []
        while len(self.repairs) and len(self._trains) < PUMP_TRAINS:
            repair = self.repairs.peek()
            if hopeless(repair, now_ns):
                gone += self._give_up(self.repairs.pop())
                continue
            fitting = [link for link in links if link.mtu.datagram_bytes >= repair.run.datagram_bytes]
            if not fitting:
                gone += self._give_up(self.repairs.pop())
                continue
            credited = [link for link in fitting if scheduler.credit_bytes(link, now_ns) > 0]
            if not credited:
                break
            self._send_repair(self.repairs.pop(), credited, now_ns)
        if gone:
            for link in links[:2]:
                self.send_control(link, pack_gone(gone), now_ns)

    def _send_repair(self, repair: Repair, links: list[Link], now_ns: int) -> None:
        """Send as much of a repair as the best link's credit allows; what is left stays in the queue."""
        copies = 2 if repair.tries >= DUPLICATE_TRIES else 1
        credit = scheduler.credit_bytes(links[0], now_ns)
        count = max(1, min(repair.run.count, credit // repair.run.datagram_bytes))
        if count < repair.run.count:
            self.repairs.push_part(repair, count)
            repair = repair._replace(run=repair.run.part(0, count))
        for link in links[:copies]:
            link.counters.repeated_datagrams += count
            self._send(link, repair.run, now_ns, repair.first_sent_ns, repair.tries)

    def _give_up(self, repair: Repair) -> list[Gone]:
        """Return what to tell the peer; in lane 0 nothing waits for anything."""
        run = repair.run
        self._counters.given_up_datagrams += run.count
        lane = run.first_byte >> 1 & 15
        return [Gone(lane, run.gseq % GSEQ_MODULUS, run.count)] if lane else []

    def _send_sparse(self, links: list[Link], now_ns: int) -> None:
        """Send all sparse packets at once over the fastest link; they are few and go ahead of their turn."""
        link = self._sparse_link = scheduler.for_sparse(links, self._sparse_link)
        self._drop_sparse_too_big(link, now_ns)
        if self.queue.sparse:
            self._send(link, self.queue.take_sparse(link.body_bytes), now_ns)

    def _drop_sparse_too_big(self, link: Link, now_ns: int) -> None:
        room = link.body_bytes - DATA_HEAD.size
        if any(len(packet.item) > room for packet in self.queue.sparse):
            for packet in [packet for packet in self.queue.sparse if len(packet.item) > room]:
                self.queue.sparse.remove(packet)
                self._refuse(packet, link)

    def _send_flows(self, links: list[Link], now_ns: int) -> None:
        queue = self.queue
        skipped = 0
        usable = links if self.matching is None else self._with_pinned(links)
        credited = [link for link in usable if scheduler.credit_bytes(link, now_ns) > 0]
        turn_ns = TURN_NS * len(usable)
        while credited and len(self._trains) < PUMP_TRAINS:
            flow = queue.head(now_ns)
            if flow is None or skipped > 64:
                break
            choose = scheduler.for_flow if self.matching is None else self._choose
            link = choose(flow, links, credited)
            if link is None:
                queue.skip(flow)
                skipped += 1
                if skipped >= queue.waiting_flows:
                    break
                continue
            if self._refused_head(flow, link):
                continue
            allowance = scheduler.credit_bytes(link, now_ns)
            if allowance < TURN_BYTES:
                allowance = max(allowance, _turn_bytes(link, turn_ns))
            self._send(link, queue.take(flow, allowance, link.body_bytes, now_ns), now_ns)
            if scheduler.credit_bytes(link, now_ns) <= 0:
                credited.remove(link)
        if len(self._trains) < PUMP_TRAINS:
            self._note_limits(usable, credited, now_ns)

    def _with_pinned(self, links: list[Link]) -> list[Link]:
        """Return the links that any traffic may use, and after them those that only filters lead to."""
        return links + [link for link in self._links if link.state == LinkState.UP and link not in links]

    def _choose(self, flow: Flow, links: list[Link], credited: list[Link]) -> Link | None:
        """Return the link for a run where filters are in use; a flow whose link went down goes as any other."""
        pinned = self._pinned_link(flow.pin) if flow.pin else None
        if pinned is not None:
            return pinned if pinned in credited else None
        shared = [link for link in credited if link in links]
        return scheduler.for_flow(flow, links, shared) if shared else None

    def _note_limits(self, links: list[Link], credited: list[Link], now_ns: int) -> None:
        """Remember since when each link has been held back by pacing alone: only then a rate sample is a capacity."""
        waiting = bool(self.queue.backlog_bytes or len(self.repairs))
        for link in links:
            if link in credited:
                link.limited_since_us = None
            elif waiting and link.limited_since_us is None:
                link.limited_since_us = ts_us(now_ns)

    def _note_nothing_waits(self, now_ns: int) -> None:
        """Remember that no link is held back: what follows is the inner senders' pace, not the links'."""
        for link in self._links:
            if link.limited_since_us is not None and scheduler.credit_bytes(link, now_ns) > 0:
                link.limited_since_us = None

    def _refused_head(self, flow: Flow, link: Link) -> bool:
        """Drop the head of ``flow`` if it does not fit into a datagram of ``link``; return whether it did not."""
        packet = flow.packets[0]
        if packet.kind == Kind.PACKETS:
            fits = len(packet.item) + DATA_HEAD.size <= link.body_bytes
        else:
            fits = SLICE_HEAD.size + packet.header_bytes + packet.slice_bytes <= link.body_bytes
        if not fits:
            self._refuse(self.queue.drop_head(flow), link)
        return not fits

    def _refuse(self, packet: Packet, link: Link) -> None:
        """Tell the sender of a packet that is too big for a link."""
        self._counters.too_big_packets += 1
        mtu_bytes = link.body_bytes - max(SLICE_HEAD.size, DATA_HEAD.size + ITEM_HEAD.size + 1)
        tell = frame_too_big if self._link_header_bytes else too_big
        answer = tell(packet.frame[VNET_BYTES:], mtu_bytes - self._link_header_bytes)
        if answer is not None:
            self._reply(NO_OFFLOAD + answer)

    def _send(self, link: Link, run: Run, now_ns: int, first_sent_ns: int = 0, tries: int = 0) -> None:
        assert self.sealer is not None
        lseq = link.take_lseq(run.count)
        trains = run.seal(self.sealer, link.number, lseq, ts_us(now_ns))
        if link.train_watch.singly:
            link.counters.cut_trains += sum(len(data) > datagram_bytes for data, datagram_bytes in trains)
            trains = [single for train in trains for single in cut_train(*train)]
        for data, datagram_bytes in trains:
            train = Train(link.socket, link.remote, data, datagram_bytes)
            if self._trains and not link.train_watch.singly and continues(self._trains[-1], train):
                train.data = self._trains.pop().data + data
            self._trains.append(train)
        link.log.add(SentRun(lseq, run, now_ns, first_sent_ns or now_ns, tries))
        link.pacer.spend(run.sent_bytes)
        link.counters.sent_datagrams += run.count
        link.counters.sent_bytes += run.sent_bytes
        link.last_sent_ns = now_ns

    def send_control(
        self, link: Link, body: bytes, now_ns: int, destination: Address | None = None, socket: str | None = None
    ) -> None:
        """Send control frames at once; they are not repaired and not counted as in flight.

        ``destination`` and ``socket``: where a question came from, if the answer is to go there.
        """
        if self.sealer is None or not link.socket_open or not (destination or link.remote):
            return
        (data,) = self.sealer.seal_bodies(link.number, link.take_lseq(1), ts_us(now_ns), [body])
        self._trains.append(Train(socket or link.socket, destination or link.remote, data, len(data)))
        link.pacer.spend(len(data))
        link.counters.sent_bytes += len(data)
        link.counters.sent_datagrams += 1
        link.last_sent_ns = now_ns

    def send_feedback(self, reports: Sequence[LinkReport], now_ns: int) -> None:
        """Report over the fastest link; every other time over the second too, lest one silence hide all."""
        links = scheduler.eligible(self._links)
        if not reports or not links:
            return
        self._feedback_copied = not self._feedback_copied
        for first in range(0, len(reports), REPORTS_PER_DATAGRAM):
            body = pack_feedback(reports[first : first + REPORTS_PER_DATAGRAM])
            for link in links[: 2 if self._feedback_copied else 1]:
                self.send_control(link, body, now_ns)

    def send_raw(self, socket: str, destination: Address | None, data: bytes) -> None:
        """Send a datagram as it is (handshake)."""
        self._trains.append(Train(socket, destination, data, len(data)))

    # --- what comes back

    def on_report(self, link: Link, report: LinkReport, reference_us: int, now_ns: int) -> bool:
        """Take the peer's report of a link; return whether it shows progress."""
        acknowledged = link.log.on_report(link.number, report)
        for repair in acknowledged.lost:
            self._counters.repaired_datagrams += repair.run.count
            link.counters.missing_datagrams += repair.run.count
            self.repairs.push(repair)
        if acknowledged.newest_sent_ns:
            link.estimator.on_ack(now_ns - acknowledged.newest_sent_ns, now_ns)
        link.estimator.on_report(report, reference_us, link.limited_since_us, now_ns)
        link.train_watch.note(report.highest, report.received_datagrams, now_ns)
        refreshing = any(other.pacer.phase == Phase.REFRESH for other in self._links if other is not link)
        wanted = link.limited_since_us is not None
        link.pacer.update(link.estimator, wanted, not refreshing, now_ns, bool(acknowledged.lost))
        return bool(acknowledged.newest_sent_ns)

    def relieve(self, link: Link) -> None:
        """Send what a silent link holds over another one, if there is one."""
        if any(other.state == LinkState.UP for other in self._links if other is not link):
            for repair in link.log.take_all(link.number):
                self._counters.rescued_datagrams += repair.run.count
                self.repairs.push(repair)

    def abandon(self, link: Link) -> None:
        """Move what a link that went down still holds to the repairs, whether or not another link is up."""
        for repair in link.log.take_all(link.number):
            self._counters.rescued_datagrams += repair.run.count
            self.repairs.push(repair)

    def tick(self, now_ns: int) -> None:
        """Do what time alone brings about."""
        self.queue.forget_idle(now_ns)
        if not any(link.state in (LinkState.UP, LinkState.SUSPECT) for link in self._links):
            self._counters.no_link_packets += self.queue.drop_older(WAIT_FOR_LINK_NS, now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when pacing lets the next datagram out, or packets become too old."""
        if (not self.queue.backlog_bytes and not len(self.repairs)) or self.sealer is None:
            return None
        now_ns = self._now_ns
        links = scheduler.eligible(self._links)
        if self.matching is not None:
            links = self._with_pinned(links)
        free = [link for link in links if link.log.flight_bytes < link.pacer.flight_limit_bytes]
        ready = [link.pacer.ready_ns(LARGEST_BYTES, now_ns) for link in free]
        return max(min(ready), now_ns + MIN_SLEEP_NS) if ready else None


def _turn_bytes(link: Link, turn_ns: int) -> int:
    """Return how much a link takes at a turn, whatever its credit."""
    return int(min(link.pacer.pace_bps * turn_ns / 8e9, link.pacer.flight_limit_bytes / 4, TURN_BYTES))
