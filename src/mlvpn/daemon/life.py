"""What the daemon knows about itself, for the snapshot: who it is, since when, on which device."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

from mlvpn import __version__, compiled
from mlvpn.config.model import Config
from mlvpn.daemon.options import Options
from mlvpn.system.tun import Tun


class Life:
    """Dates of one daemon's life."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started_ns = time.monotonic_ns()
        self._started_at = self._reloaded_at = _now()

    def reloaded(self) -> None:
        """Note that a reload has been applied."""
        self._reloaded_at = _now()

    def describe(self, config: Config, tun: Tun) -> dict[str, Any]:
        """Return the daemon's part of the snapshot."""
        return {
            "name": self._options.name,
            "version": __version__,
            "interpreted_because": compiled.INTERPRETED_BECAUSE,
            "mode": config.general.mode,
            "config": self._options.config_path,
            "pid": os.getppid(),
            "worker_pid": os.getpid(),
            "started": self._started_at,
            "last_reload": self._reloaded_at,
            "uptime_s": round((time.monotonic_ns() - self._started_ns) / 1e9, 3),
            "interface": tun.describe(),
        }


def _now() -> str:
    """The wall clock in the form of RFC 3339."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
