"""What decides which state every link is in: probes and their answers, silence, and what the daemon says of sockets.

    time          due: PING, MTU probe; overdue: UP -> SUSPECT -> DOWN; down for long: SocketWanted
    the peer      PONG, MTU ack, a report of newer datagrams: -> UP; PONG from elsewhere: its new address
    the daemon    socket opened: DOWN -> PROBING; socket, address or carrier lost: -> DOWN

A link's peer address changes only when a PONG proves that the new address echoes what was sent there.

Owns the transitions, and what each one moves: packets to other links, events to the daemon. Does not own a link's
evidence and thresholds (`link`), whose fault a silence is (`witness`), or which links there are (`roster`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mlvpn.core import witness
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.events import Address, Event, Level, LinkDown, LinkUp, Log, SocketWanted, describe_address
from mlvpn.core.link import CHALLENGE_EVERY_NS, PROBING_PATIENCE_NS, Link, LinkState
from mlvpn.core.sender import Sender
from mlvpn.wire import frame
from mlvpn.wire.frame import Ping
from mlvpn.wire.header import OVERHEAD_BYTES


class LinkWatch:
    """The states of all links of one tunnel."""

    def __init__(self, links: Sequence[Link], is_client: bool, sender: Sender, tell: Callable[[Event], None]) -> None:
        """``links`` is the roster's own list, which it keeps current; ``tell`` hands an event to the daemon."""
        self._links = links
        self._is_client = is_client
        self._sender = sender
        self._tell = tell

    def none_up(self) -> bool:
        return not any(link.state == LinkState.UP for link in self._links)

    # --- time

    def tick(self, now_ns: int) -> None:
        """Judge every link, ask what is due."""
        for link in self._links:
            self._judge(link, now_ns)
            self._probe(link, now_ns)
            if self._is_client and link.wants_new_socket(now_ns):
                self._tell(SocketWanted(link.name))

    def _judge(self, link: Link, now_ns: int) -> None:
        """Notice silence; see `core/link.py` for the states."""
        if link.state == LinkState.UP:
            reason = link.overdue(now_ns)
            unheard = witness.to_ask(link, self._links, now_ns) if reason is not None else []
            for other in unheard:
                self._probe(other, now_ns)
            if reason is not None and not unheard:
                if not link.let_off(now_ns):
                    link.suspect(reason, now_ns)
                    self._log(Level.DEBUG, f"link {link.name}: suspected, {reason}")
                self._sender.relieve(link)
        elif link.state == LinkState.SUSPECT:
            self._sender.relieve(link)
            if link.silent_too_long(now_ns):
                link.take_down(link.reason, now_ns)
                self._sender.abandon(link)
        self._announce_down(link, now_ns)

    def _probe(self, link: Link, now_ns: int) -> None:
        """Send the PING and the MTU probe that are due."""
        if self._sender.sealer is None or link.number < 0:
            return
        token = link.take_ping(now_ns)
        if token is not None:
            self._sender.send_control(link, frame.pack_ping(Ping(token, link.config.fallback_only)), now_ns)
        if link.socket_open and link.remote is not None and link.state != LinkState.DOWN:
            link.mtu.note_loss(link.estimator.loss_ratio, now_ns)
            size = link.mtu.take_probe(link.estimator.rtt_ns, link.proved_ns, now_ns)
            if size is not None:
                self._sender.send_control(link, frame.pack_mtu_probe(size, size - OVERHEAD_BYTES), now_ns)
            if link.state == LinkState.PROBING:
                self._come_up_if_proven(link, now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when a link has something to do by itself."""
        if self._sender.sealer is None:  # links without keys have nothing to do, and would be due for ever
            return None
        timers = [link.next_deadline_ns() for link in self._links if link.number >= 0]
        return min((due_ns for due_ns in timers if due_ns is not None), default=None)

    # --- what the peer says

    def challenge(self, link: Link, train: ReceivedTrain, now_ns: int) -> bool:
        """Ask whoever sent from a new address to prove that datagrams reach it there; return whether it was time."""
        if now_ns - link.challenged_ns < CHALLENGE_EVERY_NS:
            return False
        link.challenged_ns = now_ns
        token = link.new_token(train.source, now_ns)
        ping = frame.pack_ping(Ping(token, link.config.fallback_only))
        self._sender.send_control(link, ping, now_ns, train.source, train.link)
        return True

    def on_ping(self, link: Link, ping: Ping, train: ReceivedTrain, now_ns: int) -> None:
        """Answer where it came from: the answer proves the address, and brings fresh estimates with it."""
        link.peer_fallback = ping.fallback
        report = link.receiver.report(link.number, now_ns)
        answer = frame.pack_pong(ping.token) + frame.pack_feedback([report])
        self._sender.send_control(link, answer, now_ns, train.source, train.link)

    def on_pong(self, link: Link, token: int, train: ReceivedTrain, now_ns: int) -> None:
        """Take an answer: it proves the link, and where the peer is."""
        if not link.on_pong(token, train.source, now_ns):
            return
        if (train.source, train.link) != (link.remote, link.socket):
            if link.remote is not None:
                self._log(Level.INFO, f"link {link.name}: the peer is now at {describe_address(train.source)}")
            link.moved(train.source, train.link, now_ns)
        self._come_up_if_proven(link, now_ns)

    def on_mtu_probe(self, link: Link, size: int, train: ReceivedTrain, now_ns: int) -> None:
        """Say that a datagram of this size came through."""
        self._sender.send_control(link, frame.pack_mtu_ack(size), now_ns, train.source, train.link)

    def on_mtu_ack(self, link: Link, size: int, now_ns: int) -> None:
        """Learn that a datagram of this size came through."""
        link.mtu.acknowledged(size, now_ns)
        self._come_up_if_proven(link, now_ns)

    def on_progress(self, link: Link, now_ns: int) -> None:
        """Take the peer's word that newer datagrams than before have reached it: the silence is over."""
        link.proved_ns = now_ns
        if link.state == LinkState.SUSPECT:
            self._come_up(link, now_ns)

    # --- what the daemon says

    def socket_opened(self, socket: str, local: Address, remote: Address | None, now_ns: int) -> None:
        """See `interface.Core`."""
        for link in self._over(socket):
            link.opened(local, remote, now_ns)
            self._probe(link, now_ns)

    def link_lost(self, socket: str, reason: str, now_ns: int) -> None:
        """See `interface.Core`."""
        for link in self._over(socket):
            self.lose(link, reason, now_ns)

    def path_mtu(self, socket: str, mtu_bytes: int, now_ns: int) -> None:
        """See `interface.Core`."""
        for link in self._over(socket):
            link.mtu.limit(mtu_bytes, now_ns)

    def _over(self, socket: str) -> list[Link]:
        """Return the links that use a socket."""
        return [link for link in self._links if link.socket == socket]

    # --- up and down

    def _come_up_if_proven(self, link: Link, now_ns: int) -> None:
        if link.may_come_up(self.none_up(), now_ns):
            self._come_up(link, now_ns)

    def _come_up(self, link: Link, now_ns: int) -> None:
        link.come_up(now_ns)
        if not link.announced:
            link.announced = True
            self._tell(LinkUp(link.name))

    def lose(self, link: Link, reason: str, now_ns: int, at_once: bool = False) -> None:
        """Take down a link whose socket can no longer be used; what it holds goes over others."""
        link.lost(reason, now_ns)
        self._sender.abandon(link)
        self._announce_down(link, now_ns, at_once)

    def end(self, reason: str, now_ns: int) -> None:
        """Take all links down, and say so at once: the association is over."""
        for link in self._links:
            link.take_down(reason, now_ns)
        for link in self._links:
            self._announce_down(link, now_ns, at_once=True)

    def _announce_down(self, link: Link, now_ns: int, at_once: bool = False) -> None:
        """Tell of a link that is down; of the last one only after ``timeout``, or ``at_once``: it may be an outage."""
        if not link.announced or link.state in (LinkState.UP, LinkState.SUSPECT):
            return
        others = not self.none_up()
        patience = PROBING_PATIENCE_NS if others and link.state == LinkState.PROBING else 0
        if not others:
            patience = link.config.timeout_ns
        if at_once or now_ns - link.state_since_ns >= patience:
            link.announced = False
            self._tell(LinkDown(link.name, link.reason))

    def _log(self, level: Level, text: str) -> None:
        self._tell(Log(level, "protocol", text))
