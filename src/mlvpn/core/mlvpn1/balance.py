"""Which links take part in the rotation, and which of them takes the next packet.

Owns the weighted round robin. Its arithmetic is MLVPN's (wrr.c), so that links are loaded as before: every link has a
value; the link with the least takes the packet, all positive values sink by one, and the one chosen is set to
100 / weight. A weight is a link's share of the sum of all ``bandwidth_upload`` in percent, or 1 for all when one of
them is missing.

The rotation differs where MLVPN loses packets: links that have been silent for a while step aside long before their
timeout, and lossy or slow links are used rather than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Final

from mlvpn.core.mlvpn1.link import Link, LinkState

SCALE: Final = 100.0


def weights(links: Iterable[Link]) -> dict[str, float]:
    """Return each link's weight by name."""
    shares = {link.name: link.config.bandwidth_upload_bps for link in links}
    if not all(shares.values()):
        return dict.fromkeys(shares, 1.0)
    total = sum(shares.values())
    return {name: share / total * SCALE for name, share in shares.items()}


def rotation(links: Sequence[Link], now_ns: int) -> list[Link]:
    """Return the links to balance over: the best class that has any.

    Healthy links; else healthy fallback links; else links that are only lossy or slow, fallback ones first, as in
    MLVPN; else whatever is up.
    """
    up = [link for link in links if link.is_up]
    heard = [link for link in up if not link.is_silent(now_ns)]
    healthy = [link for link in heard if link.state is LinkState.UP]
    for group in (
        [link for link in healthy if not link.config.fallback_only],
        healthy,
        [link for link in heard if link.config.fallback_only],
        heard,
    ):
        if group:
            return group
    return up


class RoundRobin:
    """The values of the links in rotation."""

    def __init__(self) -> None:
        self._links: list[Link] = []
        self._steps: list[float] = []
        self._values: list[float] = []
        self._turns: Iterator[Link] | None = None
        """The same for links of equal weight, without arithmetic for each packet."""

    def assign(self, links: list[Link], weight_by_name: dict[str, float]) -> None:
        """Balance over ``links`` from now on; nothing changes when they and their weights are the same."""
        steps = [SCALE / weight_by_name[link.name] for link in links]
        if links == self._links and steps == self._steps:
            return
        self._links, self._steps, self._values = links, steps, [0.0] * len(links)
        self._turns = cycle(links) if len(set(steps)) == 1 and len(links) < steps[0] + 1 else None

    def choose(self) -> Link | None:
        """Return the link for the next packet, or None when there is none. HOT PATH."""
        if self._turns is not None:
            return next(self._turns)
        values = self._values
        if not values:
            return None
        chosen = values.index(min(values))
        self._values = [value - 1 if value > 0 else value for value in values]
        self._values[chosen] = self._steps[chosen]
        return self._links[chosen]
