"""The least that a tunnel in Python can be: ``python -m bench.relay NAME MTU LOCAL REMOTE PORT``, as root.

Packets from the TUN device NAME go to REMOTE, one to a datagram, and those from there to the device. Nothing is
encrypted, ordered, counted or decided. What it adds to a ping is what the kernel and the interpreter take for
themselves; what a tunnel adds beyond that is its own (``bench.speed --rows idle --systems relay,ours-c``).
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections.abc import Sequence

from mlvpn.system.tun import FRAME_BYTES, open_tun


def main(arguments: Sequence[str]) -> None:
    """Relay until killed."""
    name, mtu_bytes, local, remote, port = arguments
    os.environ["MLVPN_NO_OFFLOAD"] = "1"  # single packets
    device, _ = open_tun(name, "tun", int(mtu_bytes))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((local, int(port)))
    sock.connect((remote, int(port)))
    sock.setblocking(False)
    poll = select.epoll()
    poll.register(device, select.EPOLLIN)
    poll.register(sock, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            with contextlib.suppress(OSError):  # nothing left, or the peer is not there yet: it is lost
                if fd == device:
                    sock.send(os.read(device, FRAME_BYTES))
                else:
                    os.write(device, sock.recv(FRAME_BYTES))


if __name__ == "__main__":
    main(sys.argv[1:])
