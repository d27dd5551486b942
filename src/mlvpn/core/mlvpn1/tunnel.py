"""The whole of an MLVPN 1 tunnel towards the daemon: ``core.interface.Core``.

Owns what a datagram or the clock causes: links come up and go down, keepalives, answers, deliveries, log lines. Does
not own the checks on what comes in (``incoming.py``), the way out (``outgoing.py``) or the order of packets
(``resequencer.py``).

Both roles are one state machine, MLVPN's, with these differences, which its peers cannot tell from bad luck:

- A server takes any authentic datagram for AUTH while a link is down: after its restart an old client, which still
  believes to be connected, is served at once instead of after the client's timeout.
- A client that hears nothing sends AUTH beside its keepalives: a restarted server answers it at once.
- A client that stays without an answer asks for a new socket, and so for a new NAT mapping.
- A peer's address follows only datagrams that are authentic and newer than all before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mlvpn.burst.segments import rejoin
from mlvpn.config import Config, LinkConfig
from mlvpn.core.burst_io import Delivery, ReceivedTrain, Train
from mlvpn.core.events import Address, Event, Level, LinkDown, LinkUp, Log, SocketWanted
from mlvpn.core.interface import CoreSnapshot, Matching
from mlvpn.core.mlvpn1.balance import rotation, weights
from mlvpn.core.mlvpn1.counters import Mlvpn1Counters
from mlvpn.core.mlvpn1.incoming import Fresh, Incoming
from mlvpn.core.mlvpn1.link import KEEPALIVE_NS, NEW_SOCKET_AFTER_NS, SECOND_NS, TICK_NS, Link, LinkState, path_of
from mlvpn.core.mlvpn1.outgoing import Outgoing
from mlvpn.core.mlvpn1.resequencer import Resequencer, longest_wait_ns
from mlvpn.wire.mlvpn1 import READS_TRAINS, PacketType, password_key
from mlvpn.wire.rejoin import ETHERNET_BYTES
from mlvpn.wire.vnet import HEADER_BYTES as VNET_BYTES

WARN_AGAIN_NS: Final = 60 * SECOND_NS
"""The same warning is logged at most once a minute, whoever causes it."""


class Mlvpn1Tunnel:
    """One tunnel that speaks ``protocol = "mlvpn1"``."""

    may_rest = False
    """A C peer takes a window at a time and acknowledges every second packet alone: each rest would be a pause."""
    submit_bytes = 1 << 20
    """Nothing overtakes anything here, and all that a C peer has room for is sealed at once."""

    def __init__(
        self, config: Config, now_ns: int, random: Callable[[int], bytes], matching: Matching | None = None
    ) -> None:
        """Start with every link down; ``matching`` are the compiled filters."""
        key = _key(config)
        cleartext = config.general.cleartext_data
        self._config = config
        self._random = random
        self._counters = Mlvpn1Counters()
        self._incoming = Incoming(key, cleartext, self._counters)
        self._outgoing = Outgoing(key, cleartext, config.general.tuntap == "tun", self._counters)
        self._outgoing.matching = matching
        self._links = {link.name: self._new_link(link, now_ns) for link in config.links}
        self._resequencer = _resequencer(config, self._counters)
        self._delivered: list[bytes] = []
        self._l2_bytes = 0 if config.general.tuntap == "tun" else ETHERNET_BYTES
        self._events: list[Event] = []
        self._connected_ns: int | None = None
        self._warn_again_ns: dict[str, int] = {}

    # What the daemon brings in.

    def receive(self, train: ReceivedTrain, now_ns: int) -> None:
        """Take datagrams that came in on a link. HOT PATH."""
        link = self._links.get(train.link)
        if link is None:
            self._counters.unknown_link_datagrams += 1
            return
        unauthentic = self._counters.unauthentic_datagrams
        for fresh in self._incoming.open_train(link, train, now_ns):
            link.received_datagrams += fresh.datagrams
            link.received_bytes += fresh.received_bytes
            self._learn(link, fresh, train, now_ns)
            if fresh.header.type != PacketType.DATA:
                self._outgoing.peer_reads_trains = fresh.header.data_seq == READS_TRAINS
                self._control(link, PacketType(fresh.header.type), now_ns)
            elif link.is_up:
                self._take_packets(link, fresh, now_ns)
            else:
                self._counters.not_connected_datagrams += fresh.datagrams
        if self._counters.unauthentic_datagrams != unauthentic:
            self._warn_unauthentic(link, train.source, now_ns)

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        """Take TUN frames to carry to the peer."""
        self._counters.submitted_packets += len(frames)
        self._counters.submitted_bytes += sum(map(len, frames)) - VNET_BYTES * len(frames)
        self._outgoing.submit(frames, self._links)

    def tick(self, now_ns: int) -> None:
        """Do what is due."""
        for link in self._links.values():
            if link.next_tick_ns <= now_ns:
                link.next_tick_ns = now_ns + TICK_NS
                self._tick_link(link, now_ns)
        if self._resequencer is not None:
            self._deliver(self._resequencer.expire(now_ns))
        self._balance(now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when ``tick`` wants to be called."""
        deadlines = [link.next_tick_ns for link in self._links.values()]
        if self._resequencer is not None and (deadline := self._resequencer.deadline_ns()) is not None:
            deadlines.append(deadline)
        if (deadline := self._outgoing.deadline_ns(self._links)) is not None:
            deadlines.append(deadline)
        return min(deadlines, default=None)

    # What the daemon takes out.

    def take_sends(self, now_ns: int) -> list[Train]:
        """Take the trains to send, in order. What has room is decided here, once for all that came in before."""
        return self._outgoing.take_trains(self._links, now_ns)

    def take_deliveries(self) -> list[Delivery]:
        """Take the frames to write to the TUN, in order: what arrived since the last call is joined where it can be."""
        if self._outgoing.notices:
            self._deliver(self._outgoing.notices)
            self._outgoing.notices = []
        packets, self._delivered = self._delivered, []
        return [(frame,) for frame in rejoin(packets, self._l2_bytes)] if packets else []

    def take_events(self) -> list[Event]:
        """Take what happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    # What the daemon learns about sockets and configuration.

    def socket_opened(self, link: str, local: Address, remote: Address | None, now_ns: int) -> None:
        """Learn that a link has a (new) socket; a client says AUTH on it at once."""
        changed = self._links[link]
        changed.has_socket, changed.local = True, local
        changed.path_mtu_bytes = None
        changed.unanswered_since_ns = now_ns
        if self._is_server:
            changed.reason = None if changed.is_up else "waiting for the peer"
            return
        changed.remote = remote
        self._outgoing.control(changed, PacketType.KEEPALIVE if changed.is_up else PacketType.AUTH, now_ns)
        changed.next_tick_ns = now_ns + TICK_NS
        if not changed.is_up:
            changed.reason = "waiting for the peer's answer"

    def socket_failed(self, link: str, reason: str, now_ns: int) -> None:
        """Learn that no socket could be opened."""
        self._lose_socket(self._links[link], reason, now_ns)

    def link_lost(self, link: str, reason: str, now_ns: int) -> None:
        """Learn that carrier, interface or address of a link is gone."""
        self._lose_socket(self._links[link], reason, now_ns)

    def path_mtu(self, link: str, mtu_bytes: int, now_ns: int) -> None:
        """Learn the kernel's idea of a link's path MTU."""
        self._links[link].path_mtu_bytes = mtu_bytes

    def reconfigure(self, config: Config, now_ns: int) -> None:
        """Apply a new configuration; a link whose addresses changed starts anew, the others keep their state."""
        before = self._links
        self._incoming.set_key(_key(config))
        self._outgoing.set_key(_key(config))
        self._incoming.cleartext = self._outgoing.cleartext = config.general.cleartext_data
        for name in before.keys() - {link.name for link in config.links}:
            self._say_goodbye(before[name], now_ns)
            self._down(before[name], "removed from the configuration", now_ns)
            self._incoming.flows.forget_link(name)
        self._links = {
            link.name: self._reconfigured(before[link.name], link, now_ns)
            if link.name in before
            else self._new_link(link, now_ns)
            for link in config.links
        }
        if config.general.reorder_buffer_size != self._config.general.reorder_buffer_size:
            self._replace_resequencer(config)
        self._config = config
        self._balance(now_ns)

    def set_filters(self, matching: Matching | None) -> None:
        """Use these filters from now on."""
        self._outgoing.matching = matching

    def close(self, now_ns: int) -> None:
        """Tell the peer that this end goes, on every link, after what still may be sent."""
        self._outgoing.finish(self._links, now_ns)
        for link in self._links.values():
            self._say_goodbye(link, now_ns)

    def snapshot(self, now_ns: int) -> CoreSnapshot:
        """Describe everything for `status`."""
        heard = [link.heard_ns for link in self._links.values() if link.heard_ns is not None]
        waiting = len(self._resequencer) if self._resequencer is not None else 0
        return {
            "protocol": "mlvpn1",
            "cipher": "none (cleartext_data)" if self._incoming.cleartext else "XSalsa20-Poly1305",
            "session_age_s": None if self._connected_ns is None else (now_ns - self._connected_ns) / SECOND_NS,
            "last_heard_s": (now_ns - max(heard)) / SECOND_NS if heard else None,
            "queue_packets": self._outgoing.queued_packets,
            "held_datagrams": waiting,
            "links": [link.snapshot(now_ns) for link in self._links.values()],
            "counters": self._counters.totals(),
            "drops": self._counters.drops(),
        }

    # What datagrams and the clock cause.

    @property
    def _is_server(self) -> bool:
        return self._config.general.mode == "server"

    def _learn(self, link: Link, fresh: Fresh, train: ReceivedTrain, now_ns: int) -> None:
        """Take what a fresh datagram says of its link, before it is acted on."""
        header = fresh.header
        if fresh.begins_flow and (link.is_up or not self._any_up()):
            self._restart_order()
        link.heard(header, fresh.datagrams, train.arrival_ns + train.stretch_ns)
        self._outgoing.heard(header, fresh.datagrams, self._links, now_ns)
        if not fresh.is_authentic:
            return
        link.heard_ns = now_ns
        if fresh.is_newest and train.source != link.heard_from:
            self._follow(link, train.source)
        if self._is_server and not link.is_up and header.type != PacketType.DISCONNECT:
            self._up(link, now_ns)

    def _follow(self, link: Link, source: Address) -> None:
        link.heard_from = source
        if self._is_server:
            link.remote = link.destination = source
            self._log(Level.INFO, "protocol", f"{link.name} new connection -> {source[0]}:{source[1]}")

    def _control(self, link: Link, kind: PacketType, now_ns: int) -> None:
        """Act on an authentic control datagram."""
        if kind is PacketType.DISCONNECT:
            self._log(Level.INFO, "protocol", f"{link.name} disconnect received")
            self._down(link, "the peer has ended", now_ns)
        elif kind is PacketType.KEEPALIVE:
            self._answer_keepalive(link, now_ns)
        elif not self._is_server:
            self._up(link, now_ns)
        elif kind is PacketType.AUTH:
            self._outgoing.control(link, PacketType.AUTH_OK, now_ns)

    def _answer_keepalive(self, link: Link, now_ns: int) -> None:
        if not link.is_up:
            self._counters.not_connected_datagrams += 1
        elif now_ns - link.keepalive_answered_ns > KEEPALIVE_NS:
            link.keepalive_answered_ns = now_ns
            self._keep_alive(link, now_ns)

    def _keep_alive(self, link: Link, now_ns: int) -> None:
        self._outgoing.control(link, PacketType.KEEPALIVE, now_ns)
        link.next_keepalive_ns = now_ns + KEEPALIVE_NS

    def _tick_link(self, link: Link, now_ns: int) -> None:
        """Do what is due on a link each second."""
        link.rate(now_ns)
        if not link.is_up:
            self._try_again(link, now_ns)
        elif link.has_timed_out(now_ns):
            self._log(Level.INFO, "protocol", f"{link.name} timeout")
            self._down(link, f"no answer for {link.config.timeout_ns / SECOND_NS:g} s", now_ns)
            self._want_socket(link, now_ns)
        else:
            if link.next_keepalive_ns <= now_ns:
                self._keep_alive(link, now_ns)
            if link.is_silent(now_ns) and not self._is_server:
                self._outgoing.control(link, PacketType.AUTH, now_ns)
            if link.assess():
                self._log(
                    Level.INFO, "rtt", f"{link.name} is {link.state.value}: {link.reason or 'within tolerance again'}"
                )

    def _try_again(self, link: Link, now_ns: int) -> None:
        """Say AUTH on a client's link that is down."""
        if self._is_server or not link.has_socket:
            return
        self._outgoing.control(link, PacketType.AUTH, now_ns)
        if now_ns - link.unanswered_since_ns > NEW_SOCKET_AFTER_NS:
            self._warn(link, "no answer: is the peer up and reachable, and is password the same at both ends?", now_ns)
            self._want_socket(link, now_ns)

    def _want_socket(self, link: Link, now_ns: int) -> None:
        if not self._is_server:
            link.unanswered_since_ns = now_ns
            self._events.append(SocketWanted(link.name))

    def _up(self, link: Link, now_ns: int) -> None:
        if link.is_up:
            return
        link.state, link.reason = LinkState.UP, None
        link.next_keepalive_ns = now_ns + KEEPALIVE_NS
        link.keepalive_answered_ns = now_ns
        self._connected_ns = now_ns if self._connected_ns is None else self._connected_ns
        if self._resequencer is not None and not link.config.fallback_only:
            self._resequencer.link_up(link.name)
        self._log(Level.INFO, "protocol", f"{link.name} authenticated")
        self._events.append(LinkUp(link.name))
        self._balance(now_ns)

    def _down(self, link: Link, reason: str, now_ns: int) -> None:
        link.reason = reason
        if not link.is_up:
            return
        link.state = LinkState.DOWN
        link.disconnects += 1
        link.unanswered_since_ns = now_ns
        self._events.append(LinkDown(link.name, reason))
        if self._resequencer is not None:
            self._deliver(self._resequencer.link_down(link.name))
        if not self._any_up():
            self._connected_ns = None
            self._restart_order()
        self._balance(now_ns)

    def _lose_socket(self, link: Link, reason: str, now_ns: int) -> None:
        link.has_socket = False
        self._down(link, reason, now_ns)

    def _say_goodbye(self, link: Link, now_ns: int) -> None:
        if link.is_up:
            self._outgoing.control(link, PacketType.DISCONNECT, now_ns)

    def _any_up(self) -> bool:
        return any(link.is_up for link in self._links.values())

    def _balance(self, now_ns: int) -> None:
        """Choose anew which links are in rotation and how long an order is waited for."""
        links = list(self._links.values())
        self._outgoing.round_robin.assign(rotation(links, now_ns), weights(links))
        if self._resequencer is not None:
            self._resequencer.bound_ns = longest_wait_ns(links)

    # Packets and log lines on their way out.

    def _take_packets(self, link: Link, fresh: Fresh, now_ns: int) -> None:
        """Deliver packets, in order where that is wanted and known. HOT PATH."""
        if self._resequencer is None or not fresh.header.reorder or fresh.header.version == 0:
            self._deliver([packet for _, packet in fresh.packets])
        else:
            self._deliver(self._resequencer.insert(link.name, fresh.packets, now_ns))

    def _deliver(self, packets: list[bytes]) -> None:
        """Write packets to the TUN. HOT PATH."""
        self._counters.delivered_packets += len(packets)
        self._counters.delivered_bytes += sum(map(len, packets))
        self._delivered += packets

    def _restart_order(self) -> None:
        if self._resequencer is not None:
            self._deliver(self._resequencer.restart())

    def _warn_unauthentic(self, link: Link, source: Address, now_ns: int) -> None:
        key = "cleartext_data" if link.is_up else "password"
        text = f"datagrams from {source[0]}:{source[1]} do not open: is {key} the same at both ends?"
        self._warn(link, text, now_ns)

    def _warn(self, link: Link, text: str, now_ns: int) -> None:
        """Say what is probably wrong, once a minute for each link."""
        if now_ns >= self._warn_again_ns.get(link.name, now_ns):
            self._warn_again_ns[link.name] = now_ns + WARN_AGAIN_NS
            self._log(Level.WARNING, "protocol", f"{link.name} {text}")

    def _log(self, level: Level, token: str, text: str) -> None:
        self._events.append(Log(level, token, text))

    # Links and what hangs on the configuration.

    def _new_link(self, config: LinkConfig, now_ns: int) -> Link:
        flow_id = int.from_bytes(self._random(4), "big")
        self._incoming.own_flow_ids.add(flow_id)
        return Link(config, flow_id, now_ns)

    def _reconfigured(self, link: Link, config: LinkConfig, now_ns: int) -> Link:
        if path_of(link.config) != path_of(config):
            self._say_goodbye(link, now_ns)
            self._lose_socket(link, "its addresses were changed", now_ns)
        link.config = config
        return link

    def _replace_resequencer(self, config: Config) -> None:
        self._restart_order()
        self._resequencer = _resequencer(config, self._counters)
        for link in self._links.values():
            if self._resequencer is not None and link.is_up:
                self._resequencer.link_up(link.name)


def _key(config: Config) -> bytes:
    password = config.general.password
    assert password is not None, "rules.py demands a password for mlvpn1"
    return password_key(password.reveal())


def _resequencer(config: Config, counters: Mlvpn1Counters) -> Resequencer | None:
    size = config.general.reorder_buffer_size
    return Resequencer(size, counters) if size else None
