"""What the daemon asks of a protocol core, and what a core's snapshot looks like.

Owns the ``Core`` protocol that every core satisfies (native and MLVPN 1) and the shape of its snapshot; owns no
behaviour.

A core does no I/O and reads no clock: ``now_ns`` is the monotonic clock and enters as an argument. After every call
that brings something in, the daemon takes what came out: ``take_deliveries``, ``take_sends``, deliveries once more, for
sending may bring some ("too big"), and ``take_events``; and then asks ``next_deadline_ns`` when it wants to be woken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypedDict

from mlvpn.config.model import Config
from mlvpn.core.burst_io import Delivery, ReceivedTrain, Train
from mlvpn.core.events import Address, Event

Matching = Callable[[bytes], Iterable[str]]
"""The filters: takes a packet, names the links of those that match, in the order of the file."""


class LinkSnapshot(TypedDict, total=False):
    """One link, as `status` shows it; a value not known (yet) is None or absent."""

    name: str
    state: str
    """One of "up", "lossy", "slow" (all three carry or could carry traffic), "suspect", "probing" and "down"."""
    reason: str | None
    """Why it is not simply up, for a person: "no answer for 1.2 s", "interface wwan0 is missing"."""
    role: str
    """Why traffic does or does not go there: "carries", "standby", "shunned" (beyond a tolerance) or "out" (not up)."""
    fallback_only: bool
    local: str | None
    remote: str | None
    rtt_ms: float | None
    rtt_min_ms: float | None
    jitter_ms: float
    loss_ratio: float | None
    sent_bps: float | None
    received_bps: float | None
    capacity_bps: float | None
    capacity_is_measured: bool
    """True: the link was full when it was measured; False: it can do at least this."""
    pace_bps: int | None
    pacing: str
    """Phase of `core/pacer.py`."""
    queue_ms: float | None
    queue_target_ms: float
    peer_wait_ms: float
    """Part of the queue: it stands in the peer's socket, because the peer never catches up with reading."""
    delay_behind_ms: float | None
    """How much later than over the fastest link something arrives here."""
    flight_bytes: int
    flight_limit_bytes: int
    mtu_bytes: int | None
    sent_bytes: int
    received_bytes: int
    sent_datagrams: int
    received_datagrams: int
    repeated_datagrams: int
    missing_datagrams: int
    cut_trains: int
    suspected: int
    went_down: int
    last_heard_s: float | None
    """Seconds since the last authentic datagram of the peer came in on it."""


class CoreSnapshot(TypedDict, total=False):
    """The whole core at one moment; JSON-able, additive only."""

    protocol: str
    cipher: str | None
    session_age_s: float | None
    """Seconds since the peer was first authenticated; None while there is no session."""
    last_heard_s: float | None
    queue_bytes: int
    queue_ms: float
    """How long the packet sent last had waited."""
    equalise_ms: float
    """By how much bulk traffic is delayed so that all links bring it after the same time."""
    aggregate_ms: float
    """For how long, once in a while, bulk traffic is gathered and then released at once."""
    bulk_flows: int
    """Flows to the peer that may use links of any delay."""
    bounded_flows: int
    """Those of them whose window is too small for the delay that all links would ask of them."""
    held_datagrams: int
    """Received, waiting for what is missing before them."""
    cleartext: bool | None
    kernels: str
    """Implementation of the burst kernels: "c" or "python"."""
    queue_packets: int
    links: list[LinkSnapshot]
    counters: dict[str, int]
    drops: dict[str, int]
    """Every cause by name, zeros included: packets or datagrams that came in and did not go on."""


class Core(Protocol):
    """One tunnel's protocol state."""

    may_rest: bool
    """Whether the daemon may let bursts grow by a rest between wakes."""
    submit_bytes: int
    """About so much is to be submitted at once."""

    def receive(self, train: ReceivedTrain, now_ns: int) -> None:
        """Take datagrams that came in on a link."""

    def submit(self, frames: list[bytes], now_ns: int) -> None:
        """Take TUN frames to carry to the peer."""

    def tick(self, now_ns: int) -> None:
        """Do what is due; called when ``next_deadline_ns`` has passed."""

    def next_deadline_ns(self) -> int | None:
        """Say when ``tick`` wants to be called, or None for never."""

    def take_sends(self, now_ns: int) -> list[Train]:
        """Take the next trains to send, in order; there may be more until it returns none.

        ``now_ns`` is when they leave, by which the peer measures delays: it is to be read anew for each call.
        """

    def take_deliveries(self) -> list[Delivery]:
        """Take the frames to write to the TUN, in order."""

    def take_events(self) -> list[Event]:
        """Take what happened since the last call, in order."""

    def socket_opened(self, link: str, local: Address, remote: Address | None, now_ns: int) -> None:
        """Learn that a link has a (new) socket; ``remote``: its peer's resolved address, None where the peer comes."""

    def socket_failed(self, link: str, reason: str, now_ns: int) -> None:
        """Learn that no socket could be opened; the daemon tries again by itself."""

    def link_lost(self, link: str, reason: str, now_ns: int) -> None:
        """Learn that carrier, interface or address of a link is gone; ends with ``socket_opened``."""

    def path_mtu(self, link: str, mtu_bytes: int, now_ns: int) -> None:
        """Learn the kernel's idea of a link's path MTU (an IP packet's size) after a send was too big."""

    def set_filters(self, matching: Matching | None) -> None:
        """Use these filters from now on: what matches goes over the first link named that is up, else as the rest."""

    def reconfigure(self, config: Config, now_ns: int) -> None:
        """Apply a new configuration; links that stay keep their state."""

    def close(self, now_ns: int) -> None:
        """Tell the peer that this end goes, on every link; the last sends are taken afterwards."""

    def snapshot(self, now_ns: int) -> CoreSnapshot:
        """Describe everything for `status`."""
