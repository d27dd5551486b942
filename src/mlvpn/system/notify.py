"""Tell systemd how the service is: sd_notify(3) in a few lines.

Owns the notification socket, connected before the chroot and usable after it. Without NOTIFY_SOCKET everything is a
no-op. The worker is not the unit's main process, so the unit needs ``NotifyAccess=all``.
"""

from __future__ import annotations

import os
import socket
import time


class Notifier:
    """The service manager's ear."""

    def __init__(self) -> None:
        path = os.environ.pop("NOTIFY_SOCKET", "")
        os.environ.pop("WATCHDOG_USEC", "")  # the worker calls each second, whatever systemd allows
        self._socket: socket.socket | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)

    def ready(self) -> None:
        """Start-up, or a reload, is done."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The event loop still turns."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={text}")

    def close(self) -> None:
        """Say nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, text: str) -> None:
        if self._socket is not None:
            try:
                self._socket.send(text.encode())
            except OSError:
                pass  # a service manager that does not listen is no reason to stop the tunnel
