"""The handshake datagrams: golden bytes of a whole exchange, and what unpack does with everything else.

handshake_golden.json was written by this implementation with the fixed inputs below; it freezes the format.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.crypto.keys import public_of
from mlvpn.errors import PeerError
from mlvpn.wire import handshake as wire
from mlvpn.wire.handshake import Feature, InitPayload, ResponsePayload
from mlvpn.wire.noise import HandshakeState

GOLDEN: dict[str, str] = json.loads(Path(__file__).with_name("handshake_golden.json").read_text())
CLIENT, SERVER, CLIENT_EPHEMERAL, SERVER_EPHEMERAL, PSK = (bytes([n]) * 32 for n in (1, 2, 3, 4, 5))
SENDER, RECEIVER = 0xA1A2A3A4, 0xB1B2B3B4
INIT_PAYLOAD = InitPayload(
    version=1,
    instance=0x1122334455667788,
    features=Feature.SLICES | Feature.CLEARTEXT,
    aes_cost_ns=1200,
    chacha_cost_ns=2000,
    continues=0x99AABBCCDDEEFF00,
    mtu_bytes=1432,
)
RESPONSE_PAYLOAD = ResponsePayload(
    version=1,
    instance=0x99AABBCCDDEEFF00,
    features=Feature.SLICES,
    cipher=1,
    continued=True,
    cleartext=False,
    sender=RECEIVER,
    mtu_bytes=1400,
)
COOKIE = bytes(range(16))


def _client() -> HandshakeState:
    return HandshakeState(
        prologue=wire.init_prologue(SENDER),
        static_private=CLIENT,
        ephemeral_private=CLIENT_EPHEMERAL,
        psk=PSK,
        responder_public=public_of(SERVER),
    )


def _server() -> HandshakeState:
    return HandshakeState(
        prologue=wire.init_prologue(SENDER),
        static_private=SERVER,
        ephemeral_private=SERVER_EPHEMERAL,
        psk=PSK,
        initiator_public=public_of(CLIENT),
    )


def exchange() -> dict[str, str]:
    """Make every datagram once from fixed inputs."""
    client, server = _client(), _server()
    init = wire.pack_init(SENDER, client.create_init(INIT_PAYLOAD.pack()), wire.mac1_key(public_of(SERVER)))
    server.consume_init(wire.unpack_init(init).noise)
    sealed = server.create_response(RESPONSE_PAYLOAD.pack())
    datagrams = {
        "init_payload": INIT_PAYLOAD.pack(),
        "init": init,
        "init_with_cookie": wire.add_cookie(init, COOKIE),
        "response_payload": RESPONSE_PAYLOAD.pack(),
        "response": wire.pack_response(SENDER, sealed, wire.mac1_key(public_of(CLIENT))),
        "cookie": wire.pack_cookie(SENDER, COOKIE, init, bytes(24), wire.cookie_key(public_of(SERVER))),
    }
    return {name: datagram.hex() for name, datagram in datagrams.items()}


def _golden(name: str) -> bytes:
    return bytes.fromhex(GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    assert exchange()[name] == GOLDEN[name]


def test_golden_init_is_taken_apart() -> None:
    init = wire.unpack_init(_golden("init"))
    assert init.sender == SENDER
    assert InitPayload.unpack(_server().consume_init(init.noise)) == INIT_PAYLOAD
    assert wire.init_mac1_is_valid(_golden("init"), wire.mac1_key(public_of(SERVER)))
    assert not wire.init_mac1_is_valid(_golden("init"), wire.mac1_key(public_of(CLIENT)))


def test_golden_cookie_proves_the_sender() -> None:
    key = wire.cookie_key(public_of(SERVER))
    assert wire.cookie_receiver(_golden("cookie")) == SENDER
    assert wire.open_cookie(_golden("cookie"), _golden("init"), key) == COOKIE
    assert wire.init_mac2_is_valid(_golden("init_with_cookie"), COOKIE)
    assert not wire.init_mac2_is_valid(_golden("init"), COOKIE)
    assert wire.init_identity(_golden("init")) == wire.init_identity(_golden("init_with_cookie"))
    other = wire.pack_init(SENDER + 1, wire.unpack_init(_golden("init")).noise, wire.mac1_key(public_of(SERVER)))
    with pytest.raises(PeerError):
        wire.open_cookie(_golden("cookie"), other, key)


def test_golden_response_is_taken_apart() -> None:
    client = _client()
    client.create_init(INIT_PAYLOAD.pack())
    response = wire.unpack_response(_golden("response"))
    assert response.receiver == SENDER
    assert ResponsePayload.unpack(client.consume_response(response.noise)) == RESPONSE_PAYLOAD
    assert wire.response_mac1_is_valid(_golden("response"), wire.mac1_key(public_of(CLIENT)))


def test_sizes_are_those_of_the_table() -> None:
    sizes = {name: len(_golden(name)) for name in ("init", "response", "cookie", "init_payload", "response_payload")}
    assert sizes == {"init": 164, "response": 90, "cookie": 61, "init_payload": 31, "response_payload": 21}
    assert wire.INIT_LIMIT_BYTES == 420
    assert wire.RESPONSE_LIMIT_BYTES == 164


def test_index_is_authenticated() -> None:
    init = wire.unpack_init(_golden("init"))
    stranger = HandshakeState(
        prologue=wire.init_prologue(SENDER + 1), static_private=SERVER, ephemeral_private=SERVER_EPHEMERAL, psk=PSK
    )
    with pytest.raises(PeerError):
        stranger.consume_init(init.noise)


@given(st.binary(max_size=256))
def test_longer_payloads_of_a_newer_peer_are_understood(more: bytes) -> None:
    newer = _client().create_init(INIT_PAYLOAD.pack() + more)
    init = wire.unpack_init(wire.pack_init(SENDER, newer, bytes(32)))
    assert InitPayload.unpack(_server().consume_init(init.noise)) == INIT_PAYLOAD
    assert ResponsePayload.unpack(RESPONSE_PAYLOAD.pack() + more) == RESPONSE_PAYLOAD


@given(
    st.builds(
        InitPayload,
        version=st.integers(0, 255),
        instance=st.integers(0, 2**64 - 1),
        features=st.integers(0, 2**32 - 1).map(Feature),
        aes_cost_ns=st.integers(0, 2**32 - 1),
        chacha_cost_ns=st.integers(0, 2**32 - 1),
        continues=st.integers(0, 2**64 - 1),
        mtu_bytes=st.integers(0, 65535),
    )
)
def test_init_payload_round_trip(payload: InitPayload) -> None:
    assert InitPayload.unpack(payload.pack()) == payload


@given(
    st.builds(
        ResponsePayload,
        version=st.integers(0, 255),
        instance=st.integers(0, 2**64 - 1),
        features=st.integers(0, 2**32 - 1).map(Feature),
        cipher=st.integers(0, 255),
        continued=st.booleans(),
        cleartext=st.booleans(),
        sender=st.integers(0, 2**32 - 1),
        mtu_bytes=st.integers(0, 65535),
    )
)
def test_response_payload_round_trip(payload: ResponsePayload) -> None:
    assert ResponsePayload.unpack(payload.pack()) == payload


@given(st.integers(0, 1500))
def test_only_possible_lengths_are_taken_apart(length: int) -> None:
    checks = {
        wire.unpack_init: 164 <= length <= 420,
        wire.unpack_response: 90 <= length <= 164,
        wire.cookie_receiver: length == 61,
    }
    for unpack, is_possible in checks.items():
        if is_possible:
            unpack(bytes(length))
        else:
            with pytest.raises(PeerError):
                unpack(bytes(length))


def test_a_cost_beyond_the_field_is_capped() -> None:
    slow = InitPayload(1, 0, Feature(0), 1 << 40, 5, 0, 0)
    assert InitPayload.unpack(slow.pack()).aes_cost_ns == 0xFFFFFFFF
