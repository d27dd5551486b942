"""The native tunnel to one peer: the way of packets and datagrams through its parts, and what begins and ends it.

    submit --> Sender --> take_sends        receive --> Incoming --> Receiver --> take_deliveries
                 ^                                                      |
                 +------------ reports, LinkWatch <-- control frames ---+

Every datagram is authenticated before anything in it is acted on.

Owns the association, who takes each control frame, and when the core is to be woken. Does not own what is authentic
(`incoming`), which links there are (`roster`), which state they are in (`link_watch`), how packets are spread
(`sender`, `scheduler`) or ordered (`receiver`, `resequencer`), or how keys are agreed (`handshake`). Satisfies
`interface.Core`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlvpn.burst import Opened
from mlvpn.config import Config
from mlvpn.core.agreement import Offer, Random, Session
from mlvpn.core.burst_io import Delivery, ReceivedTrain, Train
from mlvpn.core.counters import TunnelCounters
from mlvpn.core.events import Address, Event, Level, Log
from mlvpn.core.handshake import Handshake
from mlvpn.core.incoming import Incoming
from mlvpn.core.interface import CoreSnapshot, Matching
from mlvpn.core.link import Link
from mlvpn.core.link_watch import LinkWatch
from mlvpn.core.piece import gathered
from mlvpn.core.receiver import Receiver
from mlvpn.core.recovery import LATE_FLOOR_NS
from mlvpn.core.roster import Roster
from mlvpn.core.sender import Sender
from mlvpn.core.sessions import Sessions
from mlvpn.core.snapshot import describe_tunnel
from mlvpn.crypto.aead import Cipher
from mlvpn.crypto.keys import StaticKeys
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_S
from mlvpn.wire import frame
from mlvpn.wire.frame import Control, LinkReport
from mlvpn.wire.handshake import Feature

HANDSHAKE_AGAIN_NS: Final = 1 * NS_PER_S
HOUSEKEEPING_NS: Final = 1 * NS_PER_S
FEATURES: Final = Feature.SLICES


class NativeTunnel:
    """See the module. Everything of one tunnel; the daemon has one of these."""

    may_rest = True
    submit_bytes = 8 << 20
    """Whatever waits in the device waits for its turn, here small packets overtake the rest: so megabytes that TCP has
    handed over are fetched, which is quick, before some of them are sealed and sent."""

    def __init__(
        self, config: Config, keys: StaticKeys, costs: Mapping[Cipher, int], now_ns: int, random: Random
    ) -> None:
        """``costs`` are this machine's (`crypto.aead.cipher_costs`)."""
        self._config = config
        self._costs = costs
        self.is_client = config.general.mode == "client"
        self.counters = TunnelCounters()
        self._events: list[Event] = []
        self._replies: list[Delivery] = []
        self._reference_us: int | None = None
        self._handshake_ns = now_ns
        self._housekeeping_ns = now_ns
        self._timers_ns = 0  # see _next_timer_ns; 0: something may have moved it
        self._may_send = False  # whether something has come in that may let something out
        self._sent_before_keys = 0
        self.closed = False
        self._roster = Roster(config.links, self.is_client, random, now_ns)
        self.links, self._by_number = self._roster.links, self._roster.by_number
        self.sessions = Sessions()
        self._incoming = Incoming(self.sessions, self.counters)
        self.receiver = Receiver(self.counters)
        tap = config.general.tuntap == "tap"
        self.sender = Sender(self.links, tap, self.counters, self._reply)
        self._watch = LinkWatch(self.links, self.is_client, self.sender, self._tell)
        instance = int.from_bytes(random(8), "big") | 1
        self.handshake = Handshake("client" if self.is_client else "server", keys, instance, self._offer(), random)

    def _offer(self) -> Offer:
        general = self._config.general
        return Offer(self._costs, FEATURES, general.cleartext_data, general.mtu)

    def _reply(self, tun_frame: bytes) -> None:
        self._replies.append((tun_frame,))

    def _tell(self, event: Event) -> None:
        self._events.append(event)

    def _log(self, level: Level, text: str) -> None:
        self._tell(Log(level, "protocol", text))

    # --- packets in

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        """See `interface.Core`. HOT PATH."""
        self.sender.submit(frames, now_ns)
        self._may_send = True

    # --- datagrams in

    def receive(self, train: ReceivedTrain, now_ns: int) -> None:
        """See `interface.Core`. HOT PATH."""
        for arrival in self._incoming.open_train(train):
            if not arrival.opened:
                self.handshake.receive(arrival.train.data, (train.link, train.source), now_ns)
                self._take_handshake(now_ns)
                continue
            if self.sessions.is_pending(arrival.index):
                self.handshake.confirm(arrival.index)
                self._use_session(arrival.index, now_ns)
            for part in gathered(arrival.opened):
                self._receive_opened(part, arrival.train, now_ns)
            self._may_send = True

    def _receive_opened(self, opened: Opened, train: ReceivedTrain, now_ns: int) -> None:
        """Take one authentic datagram, or joined slices."""
        link = self._by_number.get(opened.link) or self._learn_link(opened.link, train.link, now_ns)
        if link is None:
            self.counters.malformed_frames += opened.count
            return
        newest = opened.lseq > link.receiver.highest
        fresh = self.receiver.fresh_offsets(link, opened)
        if not fresh:
            return
        link.heard_ns = now_ns
        if newest and (train.source != link.remote or train.link != link.socket):
            self._challenge(link, train, now_ns)
        try:
            if opened.body and opened.body[0] >= 32:
                self.receiver.on_data(link, opened, fresh, train, now_ns)
            else:
                self.receiver.on_control(link, opened, train, now_ns)
                self._receive_controls(link, opened.body, train, now_ns)
        except PeerError as error:
            self.counters.malformed_frames += opened.count
            self._log(Level.DEBUG, f"link {link.name}: {error}")

    def _learn_link(self, number: int, socket: str, now_ns: int) -> Link | None:
        link = self._roster.learn(number, socket, now_ns)
        if link is not None:
            self._timers_ns = 0
        return link

    def _challenge(self, link: Link, train: ReceivedTrain, now_ns: int) -> None:
        if self._watch.challenge(link, train, now_ns):
            self._timers_ns = 0

    # --- control frames

    def _receive_controls(self, link: Link, body: bytes, train: ReceivedTrain, now_ns: int) -> None:
        self._timers_ns = 0
        for control, content in frame.unpack_controls(body):
            if control == Control.PING:
                self._watch.on_ping(link, frame.unpack_ping(content), train, now_ns)
            elif control == Control.PONG:
                self._watch.on_pong(link, frame.unpack_pong(content), train, now_ns)
            elif control == Control.FEEDBACK:
                for report in frame.unpack_feedback(content):
                    self._on_report(report, now_ns)
            elif control == Control.GONE:
                for gone in frame.unpack_gone(content):
                    self.receiver.resequencer.on_gone(gone, now_ns)
            elif control == Control.HOLD:
                self.receiver.on_hold(frame.unpack_hold(content), now_ns)
            elif control == Control.MTU_PROBE:
                self._watch.on_mtu_probe(link, frame.unpack_size(content), train, now_ns)
            elif control == Control.MTU_ACK:
                self._watch.on_mtu_ack(link, frame.unpack_size(content), now_ns)
            elif control == Control.CLOSE:
                self._on_close(content.decode("utf-8", "replace"), now_ns)

    def _on_report(self, report: LinkReport, now_ns: int) -> None:
        link = self._by_number.get(report.link)
        if link is None or report.highest >= link.next_lseq or not link.is_news(report):
            return
        if self._reference_us is None:
            self._reference_us = report.delay_us
        progress = report.highest > link.reported_highest
        link.reported_highest = max(report.highest, link.reported_highest)
        self.sender.on_report(link, report, self._reference_us, now_ns)
        if progress:
            self._watch.on_progress(link, now_ns)

    def _on_close(self, reason: str, now_ns: int) -> None:
        self._end_association(f"the peer ended the tunnel: {reason}", now_ns)
        self._handshake_ns = now_ns

    # --- sessions

    def _take_handshake(self, now_ns: int) -> None:
        """Carry out what the handshake decided."""
        self._timers_ns = 0
        handshake = self.handshake
        for session in handshake.take_sessions():
            self.sessions.add(session)
            if session.initiator:
                self._use_session(session.local_index, now_ns)
        for index in handshake.take_retired():
            self.sessions.retire(index)
        self._events += handshake.take_events()
        for path, datagram in handshake.take_sends():
            if path is not None:
                self.sender.send_raw(path[0], path[1], datagram)
                continue
            for link in self.links:
                if link.socket_open and link.remote is not None:
                    self.sender.send_raw(link.socket, link.remote, datagram)

    def _use_session(self, index: int, now_ns: int) -> None:
        self._timers_ns = 0
        session = self.sessions.use(index, now_ns)
        if not session.continued or self.sessions.established_ns == now_ns:
            self._begin_association(session, now_ns)
        self._sent_before_keys = self._sent_datagrams()
        self.sender.sealer = self.sessions.sealer
        self.sender.peer_takes_slices = bool(session.peer_features & Feature.SLICES)
        self._handshake_ns = now_ns

    def _begin_association(self, session: Session, now_ns: int) -> None:
        """Both ends start over: lseq, gseq and all that was learned of the links."""
        self.sessions.keep_only(session.local_index)
        self._reset(now_ns)
        clear = ", data in the clear" if session.cleartext else ""
        self._log(Level.INFO, f"peer authenticated, {session.cipher.name.replace('_', '-')}{clear}")

    def _reset(self, now_ns: int) -> None:
        self._reference_us = None
        self._replies += self.receiver.resequencer.take_all()
        self.receiver = Receiver(self.counters)
        self.sender.restart()
        self._roster.restart(now_ns)

    def _end_association(self, reason: str, now_ns: int) -> None:
        self._log(Level.INFO, reason)
        self._watch.end(reason, now_ns)
        self.sessions.end()
        self.handshake.forget()
        self.sender.sealer = None
        self._reset(now_ns)

    # --- sockets

    def socket_opened(self, link: str, local: Address, remote: Address | None, now_ns: int) -> None:
        """See `interface.Core`."""
        self._timers_ns = 0
        self._watch.socket_opened(link, local, remote, now_ns)
        if self.sessions.current is None:
            self._shake_hands(now_ns)

    def socket_failed(self, link: str, reason: str, now_ns: int) -> None:
        """See `interface.Core`."""
        self.link_lost(link, reason, now_ns)

    def link_lost(self, link: str, reason: str, now_ns: int) -> None:
        """See `interface.Core`."""
        self._timers_ns = 0
        self._may_send = True
        self._watch.link_lost(link, reason, now_ns)

    def path_mtu(self, link: str, mtu_bytes: int, now_ns: int) -> None:
        """See `interface.Core`."""
        self._timers_ns = 0
        self._watch.path_mtu(link, mtu_bytes, now_ns)

    # --- time

    def tick(self, now_ns: int) -> None:
        """See `interface.Core`."""
        if self.closed:
            return
        self.handshake.tick(now_ns)
        self._take_handshake(now_ns)
        self._watch.tick(now_ns)
        self.receiver.tick(now_ns)
        if self.receiver.feedback_due_ns is not None and now_ns >= self.receiver.feedback_due_ns:
            self.sender.send_feedback(self.receiver.take_reports(self.links, now_ns), now_ns)
        self._shake_hands_if_due(now_ns)
        if now_ns >= self._housekeeping_ns:
            self._keep_house(now_ns)
        self._may_send = True
        self._timers_ns = 0

    def _shake_hands_if_due(self, now_ns: int) -> None:
        """Client: agree on new keys when they are old, and anew when no link answers: the server may have restarted."""
        if not self.is_client or now_ns - self._handshake_ns < HANDSHAKE_AGAIN_NS:
            return
        sent = self._sent_datagrams() - self._sent_before_keys
        if self._watch.none_up() or self.sessions.rekey_due(sent, now_ns):
            self._shake_hands(now_ns)

    def _sent_datagrams(self) -> int:
        """Return how many datagrams this association has sealed; lseq goes on over a rekey."""
        return sum(link.next_lseq for link in self.links)

    def _shake_hands(self, now_ns: int) -> None:
        self._handshake_ns = now_ns
        self.handshake.start(now_ns)
        self._take_handshake(now_ns)

    def _keep_house(self, now_ns: int) -> None:
        self._housekeeping_ns = now_ns + HOUSEKEEPING_NS
        self.sessions.tick(now_ns)
        if self.sessions.too_old(now_ns):
            self._end_association("keys given up: no new ones could be agreed on for a minute", now_ns)
        self.sender.tick(now_ns)
        for link in self.links:
            link.measure_rates(now_ns)

    def next_deadline_ns(self) -> int | None:
        """See `interface.Core`."""
        if self.closed:
            return None
        if not self._timers_ns:
            self._timers_ns = self._next_timer_ns()
        due_ns = self._timers_ns
        for part_ns in (self.receiver.next_deadline_ns(), self.sender.next_deadline_ns()):
            if part_ns is not None and part_ns < due_ns:
                due_ns = part_ns
        return due_ns

    def _next_timer_ns(self) -> int:
        """Say when something is due that data alone does not bring about. Dear: worked out when it may have moved."""
        timers = [self._housekeeping_ns, self.handshake.next_deadline_ns(), self._watch.next_deadline_ns()]
        if self.is_client and self._watch.none_up():
            timers.append(self._handshake_ns + HANDSHAKE_AGAIN_NS)
        return min(due_ns for due_ns in timers if due_ns is not None)

    # --- out

    def take_sends(self, now_ns: int) -> list[Train]:
        """See `interface.Core`. What may be sent is decided here, once for all that came in since the last call."""
        if self._may_send:
            self._may_send = self.sender.pump(now_ns)
            # Data moves no timer but that of its acknowledgement, which is not late before this.
            self._timers_ns = min(self._timers_ns, now_ns + LATE_FLOOR_NS)
        return self.sender.take()

    def take_deliveries(self) -> list[Delivery]:
        """See `interface.Core`."""
        replies, self._replies = self._replies, []
        return self.receiver.resequencer.take() + replies

    def take_events(self) -> list[Event]:
        """See `interface.Core`."""
        taken, self._events = self._events, []
        return taken

    # --- life

    def set_filters(self, matching: Matching | None) -> None:
        """See `interface.Core`."""
        self.sender.matching = matching

    def reconfigure(self, config: Config, now_ns: int) -> None:
        """See `interface.Core`."""
        self._timers_ns = 0
        self._config = config
        self.handshake.reconfigure(self._offer())
        for link in self._roster.reconfigure(config.links, now_ns):
            self._watch.lose(link, "removed from the configuration", now_ns, at_once=True)

    def close(self, now_ns: int) -> None:
        """See `interface.Core`."""
        self.closed = True
        body = frame.pack_control(Control.CLOSE, b"stopped")
        for link in self.links:
            if link.number >= 0:
                self.sender.send_control(link, body, now_ns)
        self._watch.end("stopped", now_ns)

    def snapshot(self, now_ns: int) -> CoreSnapshot:
        """See `interface.Core`."""
        return describe_tunnel(self, now_ns)
