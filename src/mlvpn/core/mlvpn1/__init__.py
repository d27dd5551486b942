"""The core that speaks to MLVPN 2.x.

tunnel.py is the whole of it towards the daemon. A datagram meets incoming.py and flow.py (is it authentic and fresh),
link.py (what it says of its link) and resequencer.py (the order of packets); a packet meets balance.py (its link),
outgoing.py (numbers and seals) and outbox.py (trains).
"""

from mlvpn.core.mlvpn1.tunnel import Mlvpn1Tunnel

__all__ = ["Mlvpn1Tunnel"]
