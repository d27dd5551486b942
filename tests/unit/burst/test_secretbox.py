"""Both implementations of MLVPN 1's trains: the captured datagrams, and each against the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.burst import secretbox
from mlvpn.burst.secretbox import CTrainBox, PythonTrainBox, TrainBox

CAPTURE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "wire" / "mlvpn1-datagrams.json").read_text())
KEY = bytes.fromhex(CAPTURE["key"])
SEALED = [d for d in CAPTURE["datagrams"] if d["mode"] == "enc"]
needs_c = pytest.mark.skipif(secretbox.IMPLEMENTATION != "c", reason="the kernel is not built: secretbox_build")
BOXES = [PythonTrainBox, pytest.param(CTrainBox, marks=needs_c)]


@pytest.mark.parametrize("box", BOXES)
def test_captured_datagrams_open(box: type[TrainBox]) -> None:
    for captured in SEALED:
        datagram = bytes.fromhex(captured["datagram"])
        assert box(KEY).open_train(datagram, len(datagram)) == [bytes.fromhex(captured["plaintext"])]


@pytest.mark.parametrize("box", BOXES)
def test_captured_packets_seal_to_the_captured_bytes(box: type[TrainBox]) -> None:
    for c in SEALED:
        if c["type"] == "DATA":
            packet, numbers = bytes.fromhex(c["plaintext"]), (c["flow_id"], c["seq"], [c["data_seq"]])
            assert box(KEY).seal_train([packet], *numbers, c["timestamp"], c["timestamp_reply"]).hex() == c["datagram"]


trains = st.tuples(st.integers(1, 12), st.integers(1, 90), st.integers(1, 90)).map(
    lambda t: [bytes([n]) * t[1] for n in range(t[0] - 1)] + [b"z" * min(t[1], t[2])]
)


@needs_c
@given(
    trains, st.integers(0, 2**32 - 1), st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 65535), st.data()
)
def test_the_twins_agree(
    packets: list[bytes], flow: int, seq: int, first: int, stamp: int, data: st.DataObject
) -> None:
    numbers = [first + 3 * n for n in range(len(packets))]
    sealed = CTrainBox(KEY).seal_train(packets, flow, seq, numbers, stamp, 7)
    assert sealed == PythonTrainBox(KEY).seal_train(packets, flow, seq, numbers, stamp, 7)
    size = len(packets[0]) + secretbox.OVERHEAD_BYTES
    assert CTrainBox(KEY).open_train(sealed, size) == packets
    bent = bytearray(sealed)
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert CTrainBox(KEY).open_train(bytes(bent), size) == PythonTrainBox(KEY).open_train(bytes(bent), size)


@needs_c
@given(st.binary(min_size=1, max_size=300), st.integers(1, 100))
def test_the_twins_agree_on_garbage(train: bytes, size: int) -> None:
    assert CTrainBox(KEY).open_train(train, size) == PythonTrainBox(KEY).open_train(train, size)
