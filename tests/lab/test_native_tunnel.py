"""What the native tunnel carries, and how soon it is back: real daemons, real traffic, one lab for all tests.

    a, b     1500 bytes, plain veth
    narrow   1400 bytes, so that a packet as large as the tunnel's MTU does not fit a datagram

Restarts, a link's new source port and floods are in test_native_return.py and test_native_attacks.py.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import count

import pytest
from inside import sockets_in

from mlvpn.lab.daemons import Tunnel
from mlvpn.lab.measure import EchoProbes, TcpTransfer, UdpStream
from mlvpn.lab.topology import Lab, LinkSpec

pytestmark = pytest.mark.root

IP_MTU, IPV6_MTU, IPV6_DONTFRAG = 14, 24, 62
MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
PATH_MTU = {4: (socket.IPPROTO_IP, IP_MTU), 6: (socket.IPPROTO_IPV6, IPV6_MTU)}
ALWAYS_DF = 2
NARROW_INSIDE_BYTES = 1400 - 48 - 40
"""IPv6 and UDP outside, then what the tunnel adds."""
_numbers = count()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab([LinkSpec("a"), LinkSpec("b"), LinkSpec("narrow", mtu=1400)]) as lab:
        yield lab


def tunnel_of(lab: Lab, links: Sequence[str] = ("a", "b"), family: int = 4, **general: str | int) -> Tunnel:
    return Tunnel(lab, links=links, family=family, general=general, number=next(_numbers))


def carries(lab: Lab, tunnel: Tunnel, family: int, seconds: float = 0.5) -> None:
    """Ping, TCP both ways and UDP go through, whole and in order."""
    server, client = tunnel.address("server", family), tunnel.address("client", family)
    probes = EchoProbes(lab.client, server, seconds=0.3, size_bytes=1000)
    up = TcpTransfer(lab.client, lab.server, server, seconds=seconds, flows=2)
    down = TcpTransfer(lab.server, lab.client, client, seconds=seconds)
    for transfer in (up, down):
        report = transfer.wait()
        assert report.broken_flows == 0
        assert report.rate_bps() > 20e6
    assert probes.wait().lost == 0
    stream = UdpStream(lab.client, lab.server, server, seconds=0.3, rate_bps=4_000_000).wait()
    assert stream.sent > 100
    assert (stream.lost, stream.duplicates, stream.late) == (0, 0, 0)


@pytest.mark.parametrize("outside", [4, 6])
@pytest.mark.parametrize("kind", ["tun", "tap"])
def test_a_password_is_all_it_takes(lab: Lab, outside: int, kind: str) -> None:
    with tunnel_of(lab, family=outside, tuntap=kind) as tunnel:
        for inside in (4, 6):
            carries(lab, tunnel, inside)
        for status in (tunnel.client.status(), tunnel.server.status()):
            assert [link["state"] for link in status["links"]] == ["up", "up"]
            assert all(link["received_datagrams"] > 10 for link in status["links"])
            assert (status["interface"]["kind"], status["cleartext"]) == (kind, False)
            assert min(status["counters"][name] for name in ("submitted_bytes", "delivered_bytes")) > 1_000_000


def key_pair() -> tuple[str, str]:
    command = [sys.executable, "-m", "mlvpn"]
    private = subprocess.run([*command, "genkey"], capture_output=True, text=True, check=True).stdout
    public = subprocess.run([*command, "pubkey"], input=private, capture_output=True, text=True, check=True).stdout
    return private.strip(), public.strip()


def test_key_pairs_in_place_of_the_password(lab: Lab) -> None:
    (client_private, client_public), (server_private, server_public) = key_pair(), key_pair()
    ends = {
        "client": {"password": "", "private_key": client_private, "peer_key": server_public},
        "server": {"password": "", "private_key": server_private, "peer_key": client_public},
    }
    with Tunnel(lab, links=["a", "b"], ends=ends, number=next(_numbers)) as tunnel:
        carries(lab, tunnel, 4)
        text = tunnel.client.log_path.read_text() + tunnel.server.log_path.read_text()
        assert not any(key in text for key in (client_private, server_private))


@pytest.mark.parametrize("cleartext", [0, 1])
def test_data_is_on_the_wire_in_the_clear_only_when_asked(lab: Lab, cleartext: int) -> None:
    marker = b"a word that no cipher would write"
    with tunnel_of(lab, cleartext_data=cleartext) as tunnel, sockets_in(lab.server):
        carries(lab, tunnel, 4)
        assert tunnel.client.status()["cleartext"] is bool(cleartext)
        taps = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) for _ in "ab"]
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for tap, link in zip(taps, "ab", strict=True):
            tap.bind((link, 3))
            tap.settimeout(0.2)
        listener.bind((tunnel.address("server"), 9000))
        with sockets_in(lab.client), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(marker, listener.getsockname())
        listener.settimeout(5)
        assert listener.recv(2000) == marker
        seen = b"".join(frame for tap in taps for frame in frames_of(tap))
        for sock in (*taps, listener):
            sock.close()
    assert len(seen) > len(marker)
    assert (marker in seen) is bool(cleartext)


class SecondAddress(Tunnel):
    """The server is bound to no address, and the client knows it by its second."""

    def config_text(self, host: str) -> str:
        lines = super().config_text(host).splitlines()
        if host == "server":
            return "\n".join(line for line in lines if not line.startswith("bindhost"))
        return "\n".join(lines).replace('remotehost = "10.77.1.2"', 'remotehost = "10.77.1.22"')


def test_a_server_bound_to_no_address_answers_from_where_it_was_asked(lab: Lab) -> None:
    lab.server.ip("addr add 10.77.1.22/24 dev a")
    with SecondAddress(lab, links=["a"], number=next(_numbers)) as tunnel:
        carries(lab, tunnel, 4)
        (link,) = tunnel.client.status()["links"]
        assert (link["state"], link["remote"].split(":")[0]) == ("up", "10.77.1.22")


def frames_of(tap: socket.socket) -> Iterator[bytes]:
    """Return what a tap has seen until nothing more comes."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            yield tap.recv(65_536)
        except TimeoutError:
            return


@pytest.mark.parametrize("inside", [4, 6])
def test_a_packet_too_big_for_every_link_is_told_to_its_sender(lab: Lab, inside: int) -> None:
    """The tunnel's MTU is 1432, its one link carries 1312: nothing is cut short, and TCP finds its way."""
    with tunnel_of(lab, ["narrow"], family=6) as tunnel:
        assert told_mtu(lab, tunnel, inside) == NARROW_INSIDE_BYTES
        assert tunnel.client.status()["counters"]["too_big_packets"] >= 1
        carries(lab, tunnel, inside)
        for end in (tunnel.client, tunnel.server):
            status = end.status()
            assert status["links"][0]["mtu_bytes"] == 1400
            assert status["counters"]["malformed_frames"] == 0


def told_mtu(lab: Lab, tunnel: Tunnel, family: int) -> int:
    """Send ever smaller UDP datagrams with DF until one arrives, whole; return what the kernel was told of the path."""
    domain, headers_bytes = (socket.AF_INET, 28) if family == 4 else (socket.AF_INET6, 48)
    address = (tunnel.address("server", family), 9000)
    with sockets_in(lab.server):
        listener = socket.socket(domain, socket.SOCK_DGRAM)
        listener.bind(address)
    with sockets_in(lab.client):
        sender = socket.socket(domain, socket.SOCK_DGRAM)
        sender.setsockopt(*MTU_DISCOVER[family], ALWAYS_DF)
        sender.connect(address)
    with sender, listener:
        listener.settimeout(0.2)
        for _ in range(50):
            mtu_bytes = sender.getsockopt(*PATH_MTU[family])
            payload = bytes(mtu_bytes - headers_bytes)
            try:
                sender.send(payload)
                assert len(listener.recv(2000)) == len(payload)
                return mtu_bytes
            except OSError:  # the ICMP message came before, or what was too big did not arrive
                continue
    pytest.fail("no datagram of any size arrived")
