"""The weighted round robin against MLVPN's arithmetic, as a naive model."""

from __future__ import annotations

import pytest

from mlvpn.config import parse
from mlvpn.core.mlvpn1.balance import SCALE, RoundRobin, weights
from mlvpn.core.mlvpn1.link import Link


def links_of(rates: list[int]) -> list[Link]:
    """Return links of so many bytes per second; 0: not configured."""
    text = '[general]\nmode = client\nprotocol = mlvpn1\npassword = "x"\n'
    for index, rate in enumerate(rates):
        text += f"[link{index}]\nremotehost = 10.0.0.2\nremoteport = 5080\n"
        text += f"bandwidth_upload = {rate * 125_000}\n" if rate else ""
    return [Link(config, 1, 0) for config in parse(text, "x").links]


def model(steps: list[float], count: int) -> list[int]:
    """Choose as wrr.c does."""
    values, chosen = [0.0] * len(steps), []
    for _ in range(count):
        least = min(range(len(steps)), key=values.__getitem__)
        chosen.append(least)
        values = [value - 1 if value > 0 else value for value in values]
        values[least] = steps[least]
    return chosen


@pytest.mark.parametrize(
    "rates", [[0], [0, 0], [0, 0, 0], [5, 5], [7, 7, 7], [3] * 11, [1, 2], [10, 3, 1], [0, 5], [100, 10, 10]]
)
def test_links_are_loaded_as_by_the_c_daemon(rates: list[int]) -> None:
    links = links_of(rates)
    weight_by_name = weights(links)
    balance = RoundRobin()
    balance.assign(links, weight_by_name)
    chosen = []
    for _ in range(500):
        link = balance.choose()
        assert link is not None
        chosen.append(links.index(link))
        balance.assign(list(links), weight_by_name)
    assert chosen == model([SCALE / weight_by_name[link.name] for link in links], 500)


def test_without_links_there_is_nothing_to_choose() -> None:
    assert RoundRobin().choose() is None
