"""The MLVPN 1 format: every datagram captured between two real daemons, and properties of pack and unpack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.errors import PeerError
from mlvpn.wire import mlvpn1
from mlvpn.wire.mlvpn1 import Header, PacketType

CAPTURE: dict[str, Any] = json.loads((Path(__file__).parent / "mlvpn1-datagrams.json").read_text())
KEY = bytes.fromhex(CAPTURE["key"])
IDS = [f"{i}-{d['mode']}-{d['type']}-{d['link']}" for i, d in enumerate(CAPTURE["datagrams"])]

headers = st.builds(
    Header,
    length_bytes=st.integers(1, 1500),
    version=st.integers(0, 15),
    type=st.integers(0, 63),
    reorder=st.booleans(),
    timestamp=st.integers(0, 65535),
    timestamp_reply=st.integers(0, 65535),
    flow_id=st.integers(0, 2**32 - 1),
    seq=st.integers(0, 2**64 - 1),
    data_seq=st.integers(0, 2**64 - 1),
)


def is_sealed(captured: dict[str, Any]) -> bool:
    return bool(captured["mode"] == "enc" or captured["type"] != "DATA")


def test_the_capture_is_complete() -> None:
    assert len(CAPTURE["datagrams"]) == 96
    assert {d["type"] for d in CAPTURE["datagrams"]} == {t.name for t in PacketType}


def test_the_key_comes_from_the_password() -> None:
    assert mlvpn1.password_key(b"correct horse battery staple") == KEY


@pytest.mark.parametrize("captured", CAPTURE["datagrams"], ids=IDS)
def test_a_captured_datagram_parses_and_opens(captured: dict[str, Any]) -> None:
    datagram = bytes.fromhex(captured["datagram"])
    header = mlvpn1.unpack(datagram, 0, len(datagram))
    assert PacketType(header.type).name == captured["type"]
    for field in ("version", "timestamp", "timestamp_reply", "flow_id", "seq", "data_seq"):
        assert getattr(header, field) == captured[field], field
    assert header.reorder == bool(captured["reorder"])
    body = datagram[mlvpn1.HEADER_BYTES :]
    if is_sealed(captured):
        body = mlvpn1.open_sealed(body, header.flow_id, header.seq, KEY)
    assert body.hex() == captured["plaintext"]
    if header.type != PacketType.DATA:
        assert body == mlvpn1.CONTROL_BODIES[PacketType(header.type)]


@pytest.mark.parametrize("captured", CAPTURE["datagrams"], ids=IDS)
def test_a_captured_datagram_is_rebuilt_byte_for_byte(captured: dict[str, Any]) -> None:
    body = bytes.fromhex(captured["plaintext"])
    if is_sealed(captured):
        body = mlvpn1.seal(body, captured["flow_id"], captured["seq"], KEY)
    header = Header(
        length_bytes=len(body),
        version=captured["version"],
        type=PacketType[captured["type"]],
        reorder=bool(captured["reorder"]),
        timestamp=captured["timestamp"],
        timestamp_reply=captured["timestamp_reply"],
        flow_id=captured["flow_id"],
        seq=captured["seq"],
        data_seq=captured["data_seq"],
    )
    assert (mlvpn1.pack(header) + body).hex() == captured["datagram"]


@given(headers, st.integers(0, 40))
def test_unpack_reverses_pack_at_any_place(header: Header, start: int) -> None:
    data = bytes(start) + mlvpn1.pack(header) + bytes(header.length_bytes)
    assert mlvpn1.unpack(data + b"next", start, len(data)) == header


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        header = mlvpn1.unpack(data, 0, len(data))
    except PeerError:
        return
    assert header.length_bytes == len(data) - mlvpn1.HEADER_BYTES


@pytest.mark.parametrize("body_bytes", [0, 9, 11])
def test_a_length_field_that_lies_is_refused(body_bytes: int) -> None:
    header = Header(10, 1, 3, True, 1, 2, 3, 4, 5)
    data = mlvpn1.pack(header) + bytes(body_bytes)
    with pytest.raises(PeerError):
        mlvpn1.unpack(data, 0, len(data))


@given(st.binary(max_size=64), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.data())
def test_a_sealed_body_opens_only_unchanged(body: bytes, seq: int, flow_id: int, data: st.DataObject) -> None:
    sealed = mlvpn1.seal(body, flow_id, seq, KEY)
    assert mlvpn1.open_sealed(sealed, flow_id, seq, KEY) == body
    place = data.draw(st.integers(0, len(sealed) - 1))
    bent = sealed[:place] + bytes([sealed[place] ^ 1 << data.draw(st.integers(0, 7))]) + sealed[place + 1 :]
    for wrong, flow, number in ((bent, flow_id, seq), (sealed, flow_id ^ 1, seq), (sealed, flow_id, seq ^ 1)):
        with pytest.raises(PeerError):
            mlvpn1.open_sealed(wrong, flow, number, KEY)


@pytest.mark.parametrize("size", range(16))
def test_what_is_shorter_than_a_mac_does_not_open(size: int) -> None:
    with pytest.raises(PeerError):
        mlvpn1.open_sealed(bytes(size), 0, 0, KEY)


@pytest.mark.parametrize(("ms", "expected"), [(0, 0), (65534, 65534), (65535, 0), (65536, 0), (131070, 65534)])
def test_the_clock_never_says_none(ms: int, expected: int) -> None:
    assert mlvpn1.timestamp(ms * 1_000_000 + 999_999) == expected
