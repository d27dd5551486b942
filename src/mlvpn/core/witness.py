"""Whether a silence is a link's fault: the other links are its witnesses.

When one link falls silent while another has just proved itself, the link is at fault. When all are silent at once, more
likely one end has had no processor for a while: then the others are asked first, and one answer decides.

Owns that judgement. Does not own when a link counts as overdue (`link`) or what follows (`link_watch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mlvpn.core.link import Link, LinkState
from mlvpn.units import NS_PER_MS

FRESH_PROOF_NS: Final = 50 * NS_PER_MS
"""A link that proved itself this lately shows that both ends are awake."""


def to_ask(link: Link, links: Sequence[Link], now_ns: int) -> list[Link]:
    """Return the links to ask before an overdue ``link`` is judged; none: judge it now.

    Without an answer the silence is believed after ``link.DOUBT_NS``.
    """
    others = [other for other in links if other is not link and other.state == LinkState.UP]
    if any(now_ns - other.proved_ns < FRESH_PROOF_NS for other in others) or not others:
        return []
    if not link.in_doubt(now_ns):
        return []
    for other in others:
        other.ask_soon(now_ns)
    return others
