"""The Noise pattern against the published vector, and against everything a stranger can do to a message.

noise_ikpsk2.json is the one vector of this protocol name in the cacophony collection, the set that Noise
implementations check each other with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.crypto.keys import public_of
from mlvpn.errors import PeerError
from mlvpn.wire.noise import INIT_OVERHEAD_BYTES, PROTOCOL_NAME, RESPONSE_OVERHEAD_BYTES, CipherState, HandshakeState

VECTOR: dict[str, Any] = json.loads(Path(__file__).with_name("noise_ikpsk2.json").read_text())
MESSAGES = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in VECTOR["messages"]]


def _hex(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


def _initiator(**changes: bytes) -> HandshakeState:
    arguments = {
        "prologue": _hex("init_prologue"),
        "static_private": _hex("init_static"),
        "ephemeral_private": _hex("init_ephemeral"),
        "responder_public": _hex("init_remote_static"),
        "psk": bytes.fromhex(VECTOR["init_psks"][0]),
    }
    return HandshakeState(**(arguments | changes))


def _responder(**changes: bytes) -> HandshakeState:
    arguments = {
        "prologue": _hex("resp_prologue"),
        "static_private": _hex("resp_static"),
        "ephemeral_private": _hex("resp_ephemeral"),
        "psk": bytes.fromhex(VECTOR["resp_psks"][0]),
    }
    return HandshakeState(**(arguments | changes))


def test_published_vector() -> None:
    assert VECTOR["protocol_name"].encode() == PROTOCOL_NAME
    initiator, responder = _initiator(), _responder()
    (first, first_sealed), (second, second_sealed), *transport = MESSAGES
    assert initiator.create_init(first) == first_sealed
    assert responder.consume_init(first_sealed) == first
    assert responder.remote_static == public_of(_hex("init_static"))
    assert responder.create_response(second) == second_sealed
    assert initiator.consume_response(second_sealed) == second
    assert initiator.handshake_hash == responder.handshake_hash == _hex("handshake_hash")
    assert initiator.split() == responder.split()
    directions = [CipherState(key) for key in initiator.split()]
    for number, (payload, sealed) in enumerate(transport):
        assert directions[number % 2].encrypt(b"", payload) == sealed


def test_overheads_are_what_the_messages_show() -> None:
    (first, first_sealed), (second, second_sealed), *_ = MESSAGES
    assert len(first_sealed) - len(first) == INIT_OVERHEAD_BYTES
    assert len(second_sealed) - len(second) == RESPONSE_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "changes",
    [
        {"static_private": bytes(range(32))},
        {"prologue": b"another protocol"},
        {"initiator_public": public_of(bytes(range(32)))},
    ],
    ids=["not the responder's key", "another prologue", "not the expected initiator"],
)
def test_init_is_refused(changes: dict[str, bytes]) -> None:
    with pytest.raises(PeerError):
        _responder(**changes).consume_init(MESSAGES[0][1])


def test_expected_initiator_is_taken() -> None:
    responder = _responder(initiator_public=public_of(_hex("init_static")))
    assert responder.consume_init(MESSAGES[0][1]) == MESSAGES[0][0]


def test_response_with_another_psk_is_refused() -> None:
    initiator, responder = _initiator(psk=bytes(32)), _responder()
    responder.consume_init(initiator.create_init(b""))
    with pytest.raises(PeerError):
        initiator.consume_response(responder.create_response(b""))


@given(at=st.integers(0, len(MESSAGES[0][1]) - 1), bit=st.integers(0, 7))
def test_flipped_init_fails_and_spoils_nothing(at: int, bit: int) -> None:
    responder, forged = _responder(), bytearray(MESSAGES[0][1])
    forged[at] ^= 1 << bit
    # X25519 itself ignores the top bit of a public key: there only the transcript notices.
    with pytest.raises(PeerError):
        responder.consume_init(bytes(forged))
    assert responder.consume_init(MESSAGES[0][1]) == MESSAGES[0][0]


@given(at=st.integers(0, len(MESSAGES[1][1]) - 1), bit=st.integers(0, 7))
def test_flipped_response_fails_and_spoils_nothing(at: int, bit: int) -> None:
    initiator, forged = _initiator(), bytearray(MESSAGES[1][1])
    initiator.create_init(MESSAGES[0][0])
    forged[at] ^= 1 << bit
    with pytest.raises(PeerError):
        initiator.consume_response(bytes(forged))
    assert initiator.consume_response(MESSAGES[1][1]) == MESSAGES[1][0]


@given(st.binary(max_size=300))
def test_garbage_raises_peer_error_and_nothing_else(garbage: bytes) -> None:
    initiator = _initiator()
    initiator.create_init(b"")
    for consume in (initiator.consume_response, _responder().consume_init):
        with pytest.raises(PeerError):
            consume(garbage)


def test_low_order_ephemeral_is_refused() -> None:
    with pytest.raises(PeerError, match="low order"):
        _responder().consume_init(bytes(32) + MESSAGES[0][1][32:])
