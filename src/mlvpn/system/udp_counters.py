"""What passed a link's socket and what did not: counted where it is read (`receive`) and written (`udp`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SocketCounters:
    """What passed a link's socket and what did not."""

    sent_trains: int = 0
    """Trains given to ``send_burst``, dropped ones included."""
    received_trains: int = 0
    """Trains received, as the kernel made them."""
    gso_refused: int = 0
    """Trains the kernel would not segment; they were sent one datagram at a time."""
    icmp_errors: int = 0
    """Errors that ICMP reported about an earlier datagram; the train at hand went out."""
    link_send_buffer_full: int = 0
    """Send calls dropped because the socket buffer or the interface queue was full."""
    dropped_too_big: int = 0
    """Send calls dropped because the datagrams were larger than the interface takes."""
    dropped_unreachable: int = 0
    """Send calls dropped because there was no way to the peer."""
    dropped_empty: int = 0
    """Datagrams received without a single byte in them."""
