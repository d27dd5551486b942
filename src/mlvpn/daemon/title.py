"""Process titles as MLVPN's users know them from ``ps``: ``mlvpn: home [priv]`` and ``mlvpn: home @dsl2 !dsl1``."""

from __future__ import annotations

from collections.abc import Sequence

from setproctitle import setproctitle

from mlvpn.core.interface import LinkSnapshot

_SIGNS = {"up": "@", "lossy": "~", "slow": "~"}


def privileged_title(name: str) -> str:
    """Return the title of the root process."""
    return f"mlvpn: {name} [priv]"


def worker_title(name: str, links: Sequence[LinkSnapshot]) -> str:
    """Return the worker's title, the newest link first: ``@`` up, ``~`` lossy or slow, ``!`` down."""
    return " ".join([f"mlvpn: {name}", *(_SIGNS.get(link["state"], "!") + link["name"] for link in reversed(links))])


class Title:
    """Sets the title of this process when it changes, unless the titles are to be left alone."""

    def __init__(self, natural: bool) -> None:
        self._natural = natural
        self._shown = ""

    def show(self, title: str) -> None:
        """Set the title."""
        if not self._natural and title != self._shown:
            setproctitle(title)
            self._shown = title
