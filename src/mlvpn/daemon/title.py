"""Process titles as MLVPN's users know them from ``ps``: ``mlvpn: home [priv]`` and ``mlvpn: home @dsl2 !dsl1``."""

from __future__ import annotations

from collections.abc import Sequence

from mlvpn.core.interface import LinkSnapshot

_SIGNS = {"up": "@", "lossy": "~", "slow": "~", "suspect": "~"}


def privileged_title(name: str) -> str:
    """Return the root process's title."""
    return f"mlvpn: {name} [priv]"


def monitor_title(name: str) -> str:
    """Return the title of the process that serves HTTP."""
    return f"mlvpn: {name} [monitor]"


def worker_title(name: str, links: Sequence[LinkSnapshot]) -> str:
    """Return the worker's title, the newest link first: ``@`` up, ``~`` lossy or slow, ``!`` down."""
    return " ".join([f"mlvpn: {name}", *(_SIGNS.get(link["state"], "!") + link["name"] for link in reversed(links))])
