"""Whether a link's trains get through: some kernels and network cards spoil what UDP_SEGMENT makes, and nobody says so.

No errno and no probe shows it (Linux 7.0 before 7.1.5 on some cards; some hypervisors): single datagrams pass, trains
arrive broken and are dropped by the peer's kernel. A link that loses much is therefore tried with single datagrams; if
they pass, with trains again; and if those are lost again, it sends single datagrams for ``KEPT_NS``.

    TRAINS --lossy--> TRIAL --passes--> PROOF --lossy--> SINGLES --10 min--> TRAINS
       ^                |not better       |passes
       +----------------+-----------------+

A link that is just bad, or whose queue ran over once, fails one of the two steps: at most it costs a system call per
datagram for a second or two, and not again for ``REST_NS``.

Owns that judgement. Does not own the cutting of trains (`run`).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from mlvpn.units import NS_PER_MS, NS_PER_S

LOSSY_RATIO: Final = 0.1
PASSES_RATIO: Final = 0.2
"""Of the loss that led to a trial: what single datagrams may lose if trains are to blame."""
SETTLE_NS: Final = 500 * NS_PER_MS
"""What was sent in the way before is reported by then."""
WINDOW_NS: Final = 1 * NS_PER_S
WINDOW_DATAGRAMS: Final = 50
REST_NS: Final = 60 * NS_PER_S
KEPT_NS: Final = 600 * NS_PER_S


class Way(Enum):
    TRAINS = "trains"
    TRIAL = "trial"
    PROOF = "proof"
    SINGLES = "singles"


class TrainWatch:
    """What becomes of one link's datagrams when they leave as trains, and when they do not."""

    def __init__(self, now_ns: int) -> None:
        self.way = Way.TRAINS
        self._before_ratio = 0.0
        """The loss that led to the trial."""
        self._begins_ns = now_ns
        self._mark: tuple[int, int] | None = None
        """Highest lseq and datagrams received at the beginning of the window."""

    @property
    def singly(self) -> bool:
        """Whether datagrams are to be sent one by one."""
        return self.way in (Way.TRIAL, Way.SINGLES)

    def note(self, highest: int, received_datagrams: int, now_ns: int) -> None:
        """Take what the peer reports of the link."""
        if now_ns < self._begins_ns:
            return
        if self._mark is None:
            self._mark = (highest, received_datagrams)
            return
        sent = highest - self._mark[0]
        if now_ns < self._begins_ns + WINDOW_NS or sent < WINDOW_DATAGRAMS:
            return
        loss_ratio = 1 - (received_datagrams - self._mark[1]) / sent
        self._judge(loss_ratio, now_ns)

    def _judge(self, loss_ratio: float, now_ns: int) -> None:
        lossy = loss_ratio > LOSSY_RATIO
        match self.way:
            case Way.TRAINS if lossy:
                self._before_ratio = loss_ratio
                self._go(Way.TRIAL, now_ns + SETTLE_NS)
            case Way.TRIAL if loss_ratio < PASSES_RATIO * self._before_ratio:
                self._go(Way.PROOF, now_ns + SETTLE_NS)
            case Way.PROOF if lossy:
                self._go(Way.SINGLES, now_ns + KEPT_NS)
            case Way.TRAINS | Way.SINGLES:
                self._go(Way.TRAINS, now_ns)
            case Way.TRIAL | Way.PROOF:
                self._go(Way.TRAINS, now_ns + REST_NS)

    def _go(self, way: Way, begins_ns: int) -> None:
        self.way = way
        self._begins_ns = begins_ns
        self._mark = None
