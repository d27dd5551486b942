"""A real session, replayed: our state machine takes the place of one C daemon and hears what the other one sent.

The capture knows what the daemon in whose place we are sent at which moment. Ours must come up at the same datagrams,
deliver the same packets, measure the same round trip, and number and seal its packets to the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlvpn.config import parse
from mlvpn.core.burst_io import ReceivedTrain
from mlvpn.core.events import Event, LinkDown, LinkUp
from mlvpn.core.mlvpn1 import Mlvpn1Tunnel
from mlvpn.wire import mlvpn1
from mlvpn.wire.mlvpn1 import PacketType
from mlvpn.wire.vnet import NO_OFFLOAD

VECTORS = Path(__file__).parents[2] / "wire" / "mlvpn1-datagrams.json"
CAPTURED: list[dict[str, Any]] = json.loads(VECTORS.read_text())["datagrams"]
PASSWORD = "correct horse battery staple"
ADDRESS = {"link1": ("10.3.1.1", 5081), "link2": ("10.3.2.1", 5082)}
PLACES = [(mode, role) for mode in ("enc", "clear") for role in ("client", "server")]


class Replay:
    """One C daemon's place in the capture, taken by our core."""

    def __init__(self, mode: str, role: str) -> None:
        self.role = role
        self.events: list[Event] = []
        self.delivered: list[str] = []
        self.sent: list[tuple[str, bytes]] = []
        self.session = sorted((d for d in CAPTURED if d["mode"] == mode), key=lambda d: d["t"])
        self.own = [d for d in self.session if d["dir"].startswith(role)]
        flow_ids = iter([next(d["flow_id"] for d in self.own if d["link"] == link) for link in ADDRESS])
        # The clock of the captured daemon, found from the first timestamp that it sent.
        self.offset_ns = int((self.own[0]["timestamp"] / 1e3 - self.own[0]["t"]) * 1e9)
        self.core = Mlvpn1Tunnel(
            parse(self._text(mode), "capture.conf"),
            self.clock(self.session[0]),
            lambda n: next(flow_ids).to_bytes(n, "big"),
        )
        for link, address in ADDRESS.items():
            self.core.socket_opened(link, address, address if role == "client" else None, self.clock(self.session[0]))

    def _text(self, mode: str) -> str:
        lines = [f'[general]\nmode = "{self.role}"\nprotocol = "mlvpn1"\npassword = "{PASSWORD}"\ntimeout = 10']
        lines.append(f"cleartext_data = {int(mode == 'clear')}\nreorder_buffer_size = 64")
        for link, (host, port) in ADDRESS.items():
            lines.append(f"[{link}]\nremotehost = {host}\nremoteport = {port}\nbindport = {port}")
        return "\n".join(lines) + "\n"

    def clock(self, captured: dict[str, Any]) -> int:
        return self.offset_ns + int(captured["t"] * 1e9)

    def run(self) -> None:
        """Hear what the peer sent, and send the packets that the captured daemon sent."""
        for captured in self.session:
            now_ns = self.clock(captured)
            while (deadline_ns := self.core.next_deadline_ns()) is not None and deadline_ns <= now_ns:
                self.core.tick(deadline_ns)
            if captured not in self.own:
                data = bytes.fromhex(captured["datagram"])
                self.core.receive(
                    ReceivedTrain(captured["link"], ADDRESS[captured["link"]], data, len(data), now_ns), now_ns
                )
            elif captured["type"] == "DATA":
                packet = bytes.fromhex(captured["plaintext"])
                self.core.set_filters(lambda _, link=captured["link"]: [link])  # type: ignore[misc]  # same link as then
                self.core.submit([NO_OFFLOAD + packet], now_ns)
            elif captured["type"] == "DISCONNECT" and captured["link"] == "link1":  # one for each link
                self.core.close(now_ns)
            self._take()

    def _take(self) -> None:
        for train in self.core.take_sends(0):
            for start in range(0, len(train.data), train.datagram_bytes):
                self.sent.append((train.link, train.data[start : start + train.datagram_bytes]))
        self.delivered += [b"".join(buffers)[len(NO_OFFLOAD) :].hex() for buffers in self.core.take_deliveries()]
        self.events += self.core.take_events()

    def headers(self, link: str) -> list[mlvpn1.Header]:
        return [mlvpn1.unpack(data, 0, len(data)) for where, data in self.sent if where == link]


@pytest.fixture(params=PLACES, ids=[f"{mode}-{role}" for mode, role in PLACES])
def replay(request: pytest.FixtureRequest) -> Replay:
    mode, role = request.param
    made = Replay(mode, role)
    made.run()
    return made


def test_every_datagram_of_the_peer_is_understood(replay: Replay) -> None:
    snapshot = replay.core.snapshot(replay.clock(replay.session[-1]))
    assert not any(snapshot["drops"].values())
    received = sum(link["received_datagrams"] for link in snapshot["links"])
    assert received == len(replay.session) - len(replay.own)


def test_links_come_up_and_go_down_with_the_capture(replay: Replay) -> None:
    ups = [event.link for event in replay.events if isinstance(event, LinkUp)]
    downs = [event.link for event in replay.events if isinstance(event, LinkDown)]
    assert sorted(ups) == ["link1", "link2"]
    assert sorted(downs) == ([] if replay.role == "client" else ["link1", "link2"])


def test_the_peers_packets_are_delivered_in_order(replay: Replay) -> None:
    sent = [d for d in replay.session if d not in replay.own and d["type"] == "DATA"]
    assert replay.delivered == [d["plaintext"] for d in sorted(sent, key=lambda d: d["data_seq"])]


def test_the_same_types_are_sent(replay: Replay) -> None:
    for link in ADDRESS:
        mine = [PacketType(header.type).name for header in replay.headers(link)]
        theirs = [d["type"] for d in replay.own if d["link"] == link]
        for kind in ("AUTH", "AUTH_OK", "DATA", "DISCONNECT"):
            assert mine.count(kind) == theirs.count(kind), (link, kind)
        assert abs(mine.count("KEEPALIVE") - theirs.count("KEEPALIVE")) <= theirs.count("KEEPALIVE") // 2 + 1
        assert mine[0] == theirs[0]
        assert mine[-1] == theirs[-1] or replay.role == "server"


def test_packets_have_the_captured_numbers_and_bodies(replay: Replay) -> None:
    theirs = sorted((d for d in replay.own if d["type"] == "DATA"), key=lambda d: d["t"])
    mine = [(link, data) for link, data in replay.sent if mlvpn1.unpack(data, 0, len(data)).type == PacketType.DATA]
    key = mlvpn1.password_key(PASSWORD.encode())
    for captured, (link, data) in zip(theirs, mine, strict=True):
        header = mlvpn1.unpack(data, 0, len(data))
        assert (link, header.flow_id, header.data_seq) == (captured["link"], captured["flow_id"], captured["data_seq"])
        assert len(data) * 2 == len(captured["datagram"])
        body = data[mlvpn1.HEADER_BYTES :]
        if replay.core.snapshot(0)["cipher"] == "XSalsa20-Poly1305":
            body = mlvpn1.open_sealed(body, header.flow_id, header.seq, key)
        assert body.hex() == captured["plaintext"]


def test_the_first_datagram_of_each_link_is_the_captured_one_but_for_clock_and_sign(replay: Replay) -> None:
    for link in ADDRESS:
        mine = next(data for where, data in replay.sent if where == link)
        theirs = bytes.fromhex(next(d["datagram"] for d in replay.own if d["link"] == link))
        # Bytes 4 to 7 are the timestamps, 20 to 27 the data_seq, which MLVPN does not look at in control datagrams.
        assert mine[:4] + mine[8:20] + mine[28:] == theirs[:4] + theirs[8:20] + theirs[28:]
        assert int.from_bytes(mine[20:28]) == mlvpn1.READS_TRAINS


def test_timestamps_are_answered_within_a_second_or_not_at_all(replay: Replay) -> None:
    assert any(header.timestamp_reply != mlvpn1.NO_TIMESTAMP for link in ADDRESS for header in replay.headers(link))
    for link in replay.core.snapshot(0)["links"]:
        assert link["rtt_ms"] is not None and link["rtt_ms"] < 60
