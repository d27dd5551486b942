"""Links that are up, as many as a test asks for, known as far as a choice between them needs."""

from __future__ import annotations

from mlvpn.config import parse
from mlvpn.core.link import Link, LinkState
from mlvpn.units import NS_PER_MS


def links_up(*delays_ms: int, capacity_bps: float) -> list[Link]:
    """Return links a, b, c, ... of one capacity; each is so far away, and its round trip twice as long."""
    text = '[general]\nmode = client\npassword = "x"\n'
    for name, _ in zip("abcdefgh", delays_ms, strict=False):
        text += f"[{name}]\nremotehost = 10.0.0.2\nremoteport = 2\n"
    made = [Link(config, number, bytes, 0) for number, config in enumerate(parse(text, "x").links)]
    for link, delay_ms in zip(made, delays_ms, strict=True):
        link.state = LinkState.UP
        link.estimator.base_delay_ns = delay_ms * NS_PER_MS
        link.estimator.rtt_min_ns = 2 * delay_ms * NS_PER_MS
        link.estimator.capacity_bps = capacity_bps
    return made
