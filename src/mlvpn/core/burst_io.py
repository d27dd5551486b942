"""The shapes in which packets and datagrams enter and leave the core.

Owns what crosses the border between the core and the kernel's side; nothing else. No tuples: a named one costs a
compiled caller many times what these do.

*TUN frame*: ``bytes``, a 10-byte ``struct virtio_net_hdr`` (host order) followed by the packet or super-packet.
A plain TUN without vnet header prefixes ten zero bytes, so the core sees one form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlvpn.core.events import Address

Delivery = Sequence[bytes | memoryview]
"""One TUN frame to write, as buffers for one ``writev``: the first begins with the 10-byte virtio_net_hdr."""


class ReceivedTrain:
    """What one receive call brought: datagrams of ``datagram_bytes`` each, the last may be shorter."""

    __slots__ = ("arrival_ns", "data", "datagram_bytes", "link", "source", "stretch_ns")

    def __init__(
        self, link: str, source: Address, data: bytes, datagram_bytes: int, arrival_ns: int, stretch_ns: int = 0
    ) -> None:
        self.link = link
        """Name of the configured link whose socket it came in on."""
        self.source = source
        self.data = data
        self.datagram_bytes = datagram_bytes
        self.arrival_ns = arrival_ns
        """When the kernel had its first datagram, on the monotonic clock that ``now_ns`` uses."""
        self.stretch_ns = stretch_ns
        """How much later the last one came, if it left with the first (their time stamps are the same); else 0."""

    def singles(self) -> Iterator[ReceivedTrain]:
        """Yield each datagram as a train of its own; none is taken for earlier than it was."""
        arrival_ns = self.arrival_ns + self.stretch_ns
        for at in range(0, len(self.data), self.datagram_bytes):
            part = self.data[at : at + self.datagram_bytes]
            yield ReceivedTrain(self.link, self.source, part, len(part), arrival_ns)


class Train:
    """What one send call takes: datagrams of ``datagram_bytes`` each, the last may be shorter."""

    __slots__ = ("data", "datagram_bytes", "destination", "link")

    def __init__(self, link: str, destination: Address | None, data: bytes, datagram_bytes: int) -> None:
        self.link = link
        self.destination = destination
        """None: the address the socket's link is configured with (a client's remotehost)."""
        self.data = data
        self.datagram_bytes = datagram_bytes
