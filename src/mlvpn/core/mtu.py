"""The largest datagram one link carries: probed with padded datagrams, DF set (DPLPMTUD, RFC 8899).

    SEARCHING --acknowledged or refused--> next size ... --nothing larger left--> DONE --10 minutes--> SEARCHING
    any --path_mtu from the kernel--> SEARCHING below it
    DONE --much is lost--> the size in use is probed again --refused--> SEARCHING below it

The largest size is tried first, because it nearly always passes; only then a bisection. A probe without an answer says
something of its size only if something small got through after it: a dead link refuses nothing. Sizes are UDP payload
bytes.

Owns the sizes and when to probe. Does not own sending the probe.
"""

from __future__ import annotations

from typing import Final

from mlvpn.units import NS_PER_MS, NS_PER_S

IPV4_UDP_BYTES: Final = 28
IPV6_UDP_BYTES: Final = 48
LARGEST_PATH_MTU: Final = 1500
SMALLEST_PATH_MTU: Final = 1280
"""IPv6's least MTU (RFC 8200, section 5): every link is taken to carry this without a probe."""
STEP_BYTES: Final = 8
PROBE_TRIES: Final = 3
DOUBT_TRIES: Final = 6
"""More, for a size that has been in use: on a link that loses much, probes are lost like everything else."""
DOUBT_LOSS_RATIO: Final = 0.05
"""A link that loses more may have got a smaller MTU without a word."""
DOUBT_EVERY_NS: Final = 1 * NS_PER_S
PROBE_EVERY_NS: Final = 100 * NS_PER_MS
MAX_PROBE_EVERY_NS: Final = 2 * NS_PER_S
"""A link on which nothing gets through is probed ever more seldom."""
REPROBE_NS: Final = 600 * NS_PER_S


class MtuSearch:
    """Search of one link's datagram size."""

    def __init__(self, ipv6: bool, now_ns: int) -> None:
        self.overhead_bytes = IPV6_UDP_BYTES if ipv6 else IPV4_UDP_BYTES
        self.datagram_bytes = SMALLEST_PATH_MTU - self.overhead_bytes
        """Largest size known to pass."""
        self.first_answer = False
        """Whether the first probe has been answered or given up: before that the size may be far too small."""
        self._ceiling_bytes = LARGEST_PATH_MTU - self.overhead_bytes
        self._probing_bytes = self._ceiling_bytes
        self._tries = 0
        self._probed_ns: int | None = None
        self._pause_ns = PROBE_EVERY_NS
        self._doubted_ns = now_ns
        self._next_probe_ns = now_ns

    @property
    def path_mtu_bytes(self) -> int:
        """Size of the IP packets known to pass."""
        return self.datagram_bytes + self.overhead_bytes

    def due_ns(self) -> int:
        return self._next_probe_ns

    def take_probe(self, rtt_ns: float, proved_ns: int, now_ns: int) -> int | None:
        """Return the size to probe now, or None; the one before counts as refused after ``PROBE_TRIES``.

        ``proved_ns``: when it was last seen that anything of ours gets through.
        """
        if now_ns < self._next_probe_ns:
            return None
        if self._probed_ns is not None:
            self._judge_silence(proved_ns > self._probed_ns + rtt_ns)
        if self._tries >= (PROBE_TRIES if self._probing_bytes > self.datagram_bytes else DOUBT_TRIES):
            self._refused(now_ns)
        elif not self._probing_bytes:
            self._probing_bytes = self._ceiling_bytes = LARGEST_PATH_MTU - self.overhead_bytes
            if self._probing_bytes <= self.datagram_bytes:
                self._finish(now_ns)
        if not self._probing_bytes:
            return None
        self._probed_ns = now_ns
        self._next_probe_ns = now_ns + max(int(2 * rtt_ns), self._pause_ns)
        return self._probing_bytes

    def _judge_silence(self, alive: bool) -> None:
        """Count a probe that was not answered, if the link is alive."""
        self._tries += alive
        self._pause_ns = PROBE_EVERY_NS if alive else min(2 * self._pause_ns, MAX_PROBE_EVERY_NS)

    def acknowledged(self, size: int, now_ns: int) -> None:
        """Learn that a probe of ``size`` came through."""
        self.first_answer = True
        if self.datagram_bytes < size <= self._ceiling_bytes or size == self._probing_bytes:
            self.datagram_bytes = max(size, self.datagram_bytes)
            self._next_size(now_ns)

    def limit(self, path_mtu_bytes: int, now_ns: int) -> None:
        """Learn from the kernel that IP packets over ``path_mtu_bytes`` do not pass."""
        ceiling = max(path_mtu_bytes, 576) - self.overhead_bytes
        if ceiling < self._ceiling_bytes:
            self._ceiling_bytes = ceiling
            self.datagram_bytes = min(self.datagram_bytes, ceiling)
            self._begin(ceiling, now_ns)

    def note_loss(self, loss_ratio: float, now_ns: int) -> None:
        """Learn how much is lost; if much, make sure that it is not the large ones only, as on a path that changed."""
        if loss_ratio <= DOUBT_LOSS_RATIO:
            return
        idle = not self._probing_bytes and now_ns - self._doubted_ns >= DOUBT_EVERY_NS
        if idle and self.path_mtu_bytes > SMALLEST_PATH_MTU:
            self._doubted_ns = now_ns
            self._begin(self.datagram_bytes, now_ns)

    def _begin(self, size: int, now_ns: int) -> None:
        self._probing_bytes, self._tries, self._probed_ns, self._next_probe_ns = size, 0, None, now_ns
        self._pause_ns = PROBE_EVERY_NS

    def _refused(self, now_ns: int) -> None:
        self.first_answer = True
        if self._probing_bytes <= self.datagram_bytes:
            self.datagram_bytes = min(SMALLEST_PATH_MTU - self.overhead_bytes, self._probing_bytes)
        self._ceiling_bytes = self._probing_bytes - STEP_BYTES
        self._next_size(now_ns)

    def _next_size(self, now_ns: int) -> None:
        self._begin(self._middle(), now_ns)
        if not self._probing_bytes:
            self._finish(now_ns)

    def _middle(self) -> int:
        """Return the next size worth trying, 0 if none is left."""
        room = self._ceiling_bytes - self.datagram_bytes
        if room < STEP_BYTES:
            return 0
        return self.datagram_bytes + (room + STEP_BYTES) // 2 // STEP_BYTES * STEP_BYTES

    def _finish(self, now_ns: int) -> None:
        self._begin(0, now_ns + REPROBE_NS)
