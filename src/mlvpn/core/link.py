"""One link: its addresses, whether it is alive, and what it knows and holds in each direction.

    DOWN --socket open--> PROBING --PONG, MTU known--> UP <--an answer-- SUSPECT --silent for long--> DOWN
                                                        +--answers overdue--^

Evidence decides. UP turns SUSPECT when acknowledgements are overdue, or the answers to two PINGs: cheap and reversible,
the link only gets no new data and what it holds is rescued. Where hardly anything is under way, that may just be lost:
it is rescued, and one more PING decides. SUSPECT turns DOWN when probes stay unanswered for half a second. A link that
was DOWN comes back after three answers, later the more often it has failed lately. Loss alone never takes a link down.

Owns state, addresses, the evidence from probes and the numbers sent on the link. Does not own when it is judged and
what follows from that (`link_watch`), the session's keys or what is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

from mlvpn.config import LinkConfig
from mlvpn.core.counters import LinkCounters
from mlvpn.core.estimator import Estimator
from mlvpn.core.events import Address
from mlvpn.core.feedback import LinkReceiver
from mlvpn.core.mtu import MtuSearch
from mlvpn.core.pacer import Pacer
from mlvpn.core.recovery import SentLog, late_after_ns
from mlvpn.core.train_watch import TrainWatch
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.frame import LinkReport
from mlvpn.wire.header import OVERHEAD_BYTES

PING_IDLE_NS: Final = 500 * NS_PER_MS
PING_PROBING_NS: Final = 250 * NS_PER_MS
PING_SUSPECT_NS: Final = 50 * NS_PER_MS
PING_DOWN_NS: Final = 1 * NS_PER_S
PROBING_FAST_NS: Final = 5 * NS_PER_S
PONG_SLACK_NS: Final = 100 * NS_PER_MS
"""How much later than its usual round trip a PONG may be before the link is suspected."""
PINGS_TO_SUSPECT: Final = 2
"""In a row; the second is sent as soon as the first is overdue."""
FEW_RUNS: Final = 2
"""With no more than this under way, what is overdue may as well have been lost: nothing later has come to show it."""
DOUBT_NS: Final = 120 * NS_PER_MS
"""How long a silence of all links at once is put down to an end that has no processor."""
DOUBT_EVERY_NS: Final = 10 * NS_PER_MS
DOWN_AFTER_NS: Final = 500 * NS_PER_MS
DOWN_PINGS: Final = 3
PROBING_PATIENCE_NS: Final = 2 * NS_PER_S
"""A link that starts over (the peer restarted) is not announced as down for this long."""
CHALLENGE_EVERY_NS: Final = 100 * NS_PER_MS
PONGS_TO_RETURN: Final = 3
MAX_HOLD_DOWN_NS: Final = 8 * NS_PER_S
FLAP_MEMORY_NS: Final = 60 * NS_PER_S
RENEW_SOCKET_NS: Final = 5 * NS_PER_S
"""A client's link that has been down this long gets a new socket: a NAT mapping may be stale."""
MAX_PINGS: Final = 64


class LinkState(Enum):
    DOWN = "down"
    PROBING = "probing"
    UP = "up"
    SUSPECT = "suspect"


class Link:
    """State of one link of a session. All numbers go on over a rekey; ``restart`` begins a new association."""

    def __init__(self, config: LinkConfig, number: int, random: Callable[[int], bytes], now_ns: int) -> None:
        self.config = config
        self.name = config.name
        self.socket = config.name
        """Name of the configured link whose socket carries this one: on a server several links may share one."""
        self.number = number
        """As in the header: the link's place in the client's configuration; -1 on a server until a client uses it."""
        self.state = LinkState.DOWN
        self.reason = "no socket yet"
        self.local: Address | None = None
        self.remote: Address | None = None
        """Where datagrams go: configured and resolved on a client, proven by a PONG on a server."""
        self.socket_open = False
        self.peer_fallback = False
        self.announced = False
        """Whether the daemon has been told that the link is up."""
        self.sent_bps = 0
        self.received_bps = 0
        self._measured = (now_ns, 0, 0)
        self.counters = LinkCounters()
        self._random = random
        self.restart(now_ns)

    def restart(self, now_ns: int) -> None:
        """Begin a new association: nothing learned from the old peer holds."""
        self.next_lseq = 0
        self.receiver = LinkReceiver()
        self.log = SentLog()
        self.estimator = Estimator(now_ns)
        self.pacer = Pacer(now_ns, self.config.bandwidth_upload_bps)
        self.mtu = MtuSearch(self._is_ipv6(), now_ns)
        self.train_watch = TrainWatch(now_ns)
        self.limited_since_us: int | None = None
        self.reported_highest = -1
        self.heard_ns = 0
        self.challenged_ns = 0
        self.proved_ns = 0
        """When the peer last proved that our datagrams reach it: a PONG, or a report of newer ones."""
        self.state_since_ns = now_ns
        self.last_sent_ns = 0
        self._reported: LinkReport | None = None
        self._pings: dict[int, tuple[int, Address | None]] = {}
        self._next_ping_ns = now_ns
        self._doubted_ns = -DOUBT_NS * 2
        self._judge_ns = 0
        self._warned_ns = -1
        self._unanswered = 0
        self._pongs = 0
        self._flaps = 0
        self._flapped_ns = 0
        self._return_ns = 0
        self._renewed_ns = now_ns
        if self.socket_open:
            self._enter(LinkState.PROBING, "waiting for the peer's answer", now_ns)

    @property
    def fallback(self) -> bool:
        """Whether either end wants this link only when no other is left."""
        return self.config.fallback_only or self.peer_fallback

    @property
    def usable(self) -> bool:
        return self.state == LinkState.UP

    @property
    def body_bytes(self) -> int:
        """What fits into one datagram's body."""
        return self.mtu.datagram_bytes - OVERHEAD_BYTES

    def take_lseq(self, count: int) -> int:
        first = self.next_lseq
        self.next_lseq += count
        return first

    def is_news(self, report: LinkReport) -> bool:
        """Say whether a report is newer than those seen: copies travel over links of different delay."""
        known = self._reported
        if known is not None and (report == known or report.received_datagrams < known.received_datagrams):
            return False
        self._reported = report
        return True

    def measure_rates(self, now_ns: int) -> None:
        """Update the rates that `status` shows; called about once a second."""
        then_ns, sent, received = self._measured
        counters = self.counters
        self._measured = (now_ns, counters.sent_bytes, counters.received_bytes)
        span_ns = max(now_ns - then_ns, 1)
        self.sent_bps = int((counters.sent_bytes - sent) * 8e9 / span_ns)
        self.received_bps = int((counters.received_bytes - received) * 8e9 / span_ns)

    def reconfigure(self, config: LinkConfig) -> None:
        """Take a changed configuration of the same link."""
        self.config = config
        self.pacer.ceiling_bps = config.bandwidth_upload_bps

    def _is_ipv6(self) -> bool:
        address = self.remote or self.local
        return address is not None and ":" in address[0] and not address[0].startswith("::ffff:")

    # --- socket

    def opened(self, local: Address, remote: Address | None, now_ns: int) -> None:
        """Learn of a (new) socket. A link that was up stays up: the peer follows us to the new address."""
        self.local = local
        if remote is not None:
            self.remote = remote
        self.socket_open = True
        self._renewed_ns = now_ns
        self._next_ping_ns = now_ns
        self.mtu = MtuSearch(self._is_ipv6(), now_ns)
        self.train_watch = TrainWatch(now_ns)
        if self.state == LinkState.DOWN:
            self._enter(LinkState.PROBING, "waiting for the peer's answer", now_ns)

    def moved(self, remote: Address, socket: str, now_ns: int) -> None:
        """Send to a proven new address from now on; what the path can do may have changed with it."""
        if self.remote is not None and (":" in remote[0]) != (":" in self.remote[0]):
            self.mtu = MtuSearch(self._is_ipv6(), now_ns)
        self.remote = remote
        self.socket = socket
        self.train_watch = TrainWatch(now_ns)

    def lost(self, reason: str, now_ns: int) -> bool:
        """Learn that the socket, its address or its carrier is gone; return whether the link was up."""
        self.socket_open = False
        return self._go_down(reason, now_ns)

    # --- probes

    def take_ping(self, now_ns: int) -> int | None:
        """Return the token of a PING to send now, or None."""
        if not self.socket_open or now_ns < self._next_ping_ns or self.remote is None:
            return None
        self._next_ping_ns = now_ns + self._ping_interval_ns(now_ns)
        self._unanswered += 1
        return self.new_token(self.remote, now_ns)

    def new_token(self, address: Address | None, now_ns: int) -> int:
        """Return a token that only an end at ``address`` can echo."""
        token = int.from_bytes(self._random(8), "big")
        if len(self._pings) >= MAX_PINGS:
            del self._pings[next(iter(self._pings))]
        self._pings[token] = (now_ns, address)
        return token

    def _ping_interval_ns(self, now_ns: int) -> int:
        if self.state == LinkState.SUSPECT:
            return PING_SUSPECT_NS
        if self.state == LinkState.UP:
            first = not self._unanswered and not self._warned
            return min(self._usual_answer_ns(), PING_IDLE_NS) if first else PING_IDLE_NS
        fresh = now_ns - self.state_since_ns < PROBING_FAST_NS or self._pongs
        return PING_PROBING_NS if fresh else PING_DOWN_NS

    def on_pong(self, token: int, source: Address, now_ns: int) -> bool:
        """Take an answer; return whether it proves that the peer is reachable at ``source``."""
        known = self._pings.pop(token, None)
        if known is None:
            return False
        sent_ns, address = known
        self.estimator.on_rtt(now_ns - sent_ns)
        if address != source and address is not None and self.remote != source:
            return False
        self._unanswered = 0
        if self.state == LinkState.UP:
            self._next_ping_ns = sent_ns + PING_IDLE_NS
        self._pongs += 1
        self.proved_ns = now_ns
        return True

    def may_come_up(self, alone: bool, now_ns: int) -> bool:
        """Say whether a link that is not up has given enough evidence; ``alone``: no other is up, caution helps
        nobody."""
        if self.state == LinkState.SUSPECT:
            return True
        if self.state not in (LinkState.PROBING, LinkState.DOWN) or not self.socket_open:
            return False
        if not self.mtu.first_answer:
            return False
        if alone or not self._flaps:
            return self._pongs >= 1
        return self._pongs >= PONGS_TO_RETURN and now_ns >= self._return_ns

    def come_up(self, now_ns: int) -> None:
        if self.state != LinkState.SUSPECT:
            self.pacer = Pacer(now_ns, self.config.bandwidth_upload_bps)
        self._enter(LinkState.UP, "", now_ns)
        self._next_ping_ns = now_ns + PING_IDLE_NS

    # --- silence

    def overdue(self, now_ns: int) -> str | None:
        """Return why the link is to be suspected, or None. Only an UP link is asked."""
        if now_ns < self._judge_ns:
            return None
        oldest = self._oldest_unacknowledged_ns()
        if oldest is not None and now_ns - oldest > late_after_ns(*self._usual_ack()):
            return f"no acknowledgement for {(now_ns - oldest) // NS_PER_MS} ms"
        asked_ns = self._asked_ns()
        if asked_ns is not None and now_ns - asked_ns > self._usual_answer_ns():
            return f"no answer for {(now_ns - asked_ns) // NS_PER_MS} ms"
        return None

    def _oldest_unacknowledged_ns(self) -> int | None:
        """Return since when an acknowledgement has been waited for, or None; once let off, a PING's answer decides."""
        if self._warned and len(self.log) <= FEW_RUNS:
            return None
        return self.log.oldest_sent_ns

    def _asked_ns(self) -> int | None:
        """Return since when an answer has been waited for, or None.

        One PING without an answer may be lost, and a lost one means nothing while data is acknowledged. PINGs go out
        more often than a slow link answers, so the time of the newest would never come.
        """
        since_ns = max(self._warned_ns, self.proved_ns)
        asked: list[int] = []
        for sent_ns, address in reversed(self._pings.values()):
            if sent_ns < since_ns:
                break
            if address is None or address == self.remote:
                asked.append(sent_ns)
        needed = 1 if self._warned else PINGS_TO_SUSPECT
        return asked[-needed] if len(asked) >= needed else None

    def _usual_ack(self) -> tuple[float, float]:
        estimate = self.estimator
        if estimate.ack_ns:
            return max(estimate.ack_ns, estimate.rtt_ns), estimate.ack_deviation_ns
        return estimate.rtt_ns + 50 * NS_PER_MS, estimate.rtt_deviation_ns

    def _usual_answer_ns(self) -> int:
        return int(self.estimator.rtt_ns + 4 * self.estimator.rtt_deviation_ns + PONG_SLACK_NS)

    @property
    def _warned(self) -> bool:
        """Whether nothing has proved the link since it was last let off with a warning."""
        return self._warned_ns > self.proved_ns

    def let_off(self, now_ns: int) -> bool:
        """Let an overdue link off once when so little is under way that it may just be lost; a PING tells soon."""
        if self._warned or not 0 < len(self.log) <= FEW_RUNS:
            return False
        self._warned_ns = now_ns
        self._unanswered = 0
        self._next_ping_ns = now_ns
        return True

    def overdue_at_ns(self) -> int | None:
        """Say when ``overdue`` could first be true."""
        times = []
        oldest = self._oldest_unacknowledged_ns()
        if oldest is not None:
            times.append(oldest + late_after_ns(*self._usual_ack()) + 1)
        asked_ns = self._asked_ns()
        if asked_ns is not None:
            times.append(asked_ns + self._usual_answer_ns() + 1)
        return max(min(times), self._judge_ns) if times else None

    def in_doubt(self, now_ns: int) -> bool:
        """Put the judgement on an overdue link off; False once that has been done for ``DOUBT_NS``."""
        if now_ns >= self._doubted_ns + 2 * DOUBT_NS:
            self._doubted_ns = now_ns
        self._judge_ns = now_ns + DOUBT_EVERY_NS
        return now_ns - self._doubted_ns < DOUBT_NS

    def ask_soon(self, now_ns: int) -> None:
        """Have a PING sent now unless one has just been."""
        if not self._pings or now_ns - next(reversed(self._pings.values()))[0] >= 2 * DOUBT_EVERY_NS:
            self._next_ping_ns = now_ns

    def suspect(self, reason: str, now_ns: int) -> None:
        self.counters.suspected += 1
        self._unanswered = 0
        self._enter(LinkState.SUSPECT, reason, now_ns)
        self._next_ping_ns = now_ns

    def silent_too_long(self, now_ns: int) -> bool:
        """Say whether a SUSPECT link is to be taken down."""
        patience = max(DOWN_AFTER_NS, int(2 * self.estimator.rtt_ns + 4 * self.estimator.rtt_deviation_ns))
        return self._unanswered >= DOWN_PINGS and now_ns - max(self.state_since_ns, self.proved_ns) > patience

    def take_down(self, reason: str, now_ns: int) -> bool:
        """Take the link down; return whether it was carrying traffic until now."""
        return self._go_down(reason, now_ns)

    def _go_down(self, reason: str, now_ns: int) -> bool:
        was_up = self.state in (LinkState.UP, LinkState.SUSPECT)
        if was_up:
            self.counters.went_down += 1
            if now_ns - self._flapped_ns > FLAP_MEMORY_NS:
                self._flaps = 0
            self._flaps += 1
            self._flapped_ns = now_ns
            self._return_ns = now_ns + min(NS_PER_S // 4 * 2**self._flaps, MAX_HOLD_DOWN_NS)
        if self.state != LinkState.DOWN or not self.socket_open:
            self._enter(LinkState.DOWN, reason, now_ns)
        return was_up

    def wants_new_socket(self, now_ns: int) -> bool:
        """Say whether a client should try another source port; answers True once per ``RENEW_SOCKET_NS``."""
        if self.state in (LinkState.UP, LinkState.SUSPECT) or not self.socket_open:
            return False
        if now_ns - max(self._renewed_ns, self.heard_ns) < RENEW_SOCKET_NS:
            return False
        self._renewed_ns = now_ns
        return True

    def next_deadline_ns(self) -> int | None:
        """Say when the link has something to do by itself."""
        times = []
        if self.socket_open and self.remote is not None:
            times.append(self._next_ping_ns)
            if self.state != LinkState.DOWN:
                times.append(self.mtu.due_ns())
        if self.state == LinkState.UP:
            overdue = self.overdue_at_ns()
            if overdue is not None:
                times.append(overdue)
        return min(times, default=None)

    def _enter(self, state: LinkState, reason: str, now_ns: int) -> None:
        self.state = state
        self.reason = reason
        self.state_since_ns = now_ns
        if state in (LinkState.PROBING, LinkState.DOWN):
            self._pongs = 0
