"""A small router with address translation in front of a server's link: passes datagrams on, keeps what it saw, and
changes its source port when told.

    client --> (server's address, port) Relay (server's address, any port) --> (server's address, server_port)
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque

from inside import sockets_in

from mlvpn.core.events import Address
from mlvpn.lab.host import Host

KEPT = 2000


class Relay:
    """Runs in a thread of its own between ``with`` and its end; sends to one client, the last it heard."""

    def __init__(self, host: Host, address: str, port: int, server_port: int) -> None:
        self._host = host
        self._server: Address = (address, server_port)
        self._front = self._open((address, port))
        self._back = self._open((address, 0))
        self._client: Address | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: deque[bytes] = deque(maxlen=KEPT)
        """What the client sent, newest last."""

    def _open(self, address: Address) -> socket.socket:
        with sockets_in(self._host):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(address)
        return sock

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self._front.close()
        self._back.close()

    @property
    def source_port(self) -> int:
        port: int = self._back.getsockname()[1]
        return port

    def change_source_port(self) -> None:
        """Go on from another port, as a router that has forgotten a mapping does; the old one is closed."""
        old, self._back = self._back, self._open((self._server[0], 0))
        old.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            front, back = self._front, self._back
            try:
                readable, _, _ = select.select([front, back], [], [], 0.02)
                for sock in readable:
                    self._pass_on(sock.recvfrom(65_536), sock is front)
            except (OSError, ValueError):
                continue  # the old socket was closed while waited for, or the server is not there

    def _pass_on(self, received: tuple[bytes, Address], to_server: bool) -> None:
        datagram, source = received
        if to_server:
            self._client = source
            self.seen.append(datagram)
            self._back.sendto(datagram, self._server)
        elif self._client is not None:
            self._front.sendto(datagram, self._client)
