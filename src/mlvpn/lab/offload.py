"""Switch an interface's transmit offloads off, so that whoever is at the other end of a veth sees finished packets.

A veth hands over super-packets and unfinished checksums as they are. An emulator that copies frames would carry 64 KB
"packets" and forward checksums nobody ever completes. Run as ``python -m mlvpn.lab.offload INTERFACE...`` inside the
namespace; by hand the same is ``ethtool -K INTERFACE tx off sg off tso off gso off gro off``.

Source: linux/ethtool.h (the ioctls of single features, older than and still equal to ``ethtool -K``).
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys
from collections.abc import Sequence

SIOCETHTOOL = 0x8946
SET_FEATURES_OFF = {
    "tso": 0x1F,
    "gso": 0x24,
    "gro": 0x2C,
    "sg": 0x19,
    "tx": 0x17,
}
"""ETHTOOL_S* by the name ``ethtool -K`` has for it; those that need another feature go before it."""


def finished_packets_only(interface: str) -> None:
    """Switch off segmentation and checksum offloads of one interface; OSError when there is none of that name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in SET_FEATURES_OFF.values():
            value = array.array("I", [command, 0])
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(sock, SIOCETHTOOL, request)


def main(interfaces: Sequence[str]) -> None:
    """Do it for every interface named."""
    for interface in interfaces:
        finished_packets_only(interface)


if __name__ == "__main__":
    main(sys.argv[1:])
