"""The handshake datagrams of the native protocol: what is in them, pack and unpack, and their two macs.

**INIT**, type 1, client to server, 164 to 420 bytes:

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | type | 1 |
| 1 | 4 | sender | the session index the client wants to be addressed with |
| 5 | 32 | ephemeral | Noise e |
| 37 | 48 | static | Noise s, sealed |
| 85 | 47 or more | payload | sealed, see below |
| -32 | 16 | mac1 | over everything before it, keyed with the server's public key |
| -16 | 16 | mac2 | over everything before it, keyed with a cookie; zeros without one |

**INIT payload**:

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | version | 1 |
| 1 | 8 | instance | random number of the sender's life; another number means its state is gone |
| 9 | 4 | features | bits: 1 = slices are understood, 2 = cleartext data is wished |
| 13 | 4 | aes cost | nanoseconds to seal 1400 bytes with AES-256-GCM; 0 = cannot |
| 17 | 4 | chacha cost | the same for ChaCha20-Poly1305 |
| 21 | 8 | continues | instance of the peer whose association the sender still holds; 0 = none |
| 29 | 2 | mtu | of the sender's TUN, for information |

**RESPONSE**, type 2, server to client, 90 to 164 bytes (never longer than what it answers):

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | type | 2 |
| 1 | 4 | receiver | ``sender`` of the INIT |
| 5 | 32 | ephemeral | Noise e |
| 37 | 37 or more | payload | sealed, see below |
| -16 | 16 | mac1 | over everything before it, keyed with the client's public key |

**RESPONSE payload**:

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | version | 1 |
| 1 | 8 | instance | as in INIT |
| 9 | 4 | features | as in INIT |
| 13 | 1 | cipher | of the session: 1 = AES-256-GCM, 2 = ChaCha20-Poly1305 |
| 14 | 1 | flags | bit 0: the association goes on, with its link state and lseq; bit 1: data goes in the clear |
| 15 | 4 | sender | the session index the server wants to be addressed with |
| 19 | 2 | mtu | as in INIT |

**COOKIE**, type 3, server to client, 61 bytes:

| offset | size | field | meaning |
|---|---|---|---|
| 0 | 1 | type | 3 |
| 1 | 4 | receiver | ``sender`` of the INIT |
| 5 | 24 | nonce | random |
| 29 | 32 | cookie | 16 bytes, sealed with XChaCha20-Poly1305; the AAD is mac1 of the INIT |

A longer payload than this table is valid: a newer peer may say more, an older one ignores what it does not know. The
Noise prologue is ``mlvpn native 1`` and the first five bytes of INIT, so type and index are authenticated too.

mac1 lets who receives garbage drop it for the price of one hash. Its key is the hash of ``mac1----`` and the
receiver's static public key; the key that seals cookies is the hash of ``cookie--`` and the server's public key.

Owns these formats. Does not own when they are sent or believed (``core``). All integers are big-endian.
Sources: WireGuard's paper, sections 5.4.4 and 5.4.7, for macs and cookie; everything else is ours.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

import nacl.exceptions
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt, crypto_aead_xchacha20poly1305_ietf_encrypt

from mlvpn.errors import PeerError
from mlvpn.wire.header import DatagramType
from mlvpn.wire.noise import INIT_OVERHEAD_BYTES, RESPONSE_OVERHEAD_BYTES, TAG_BYTES

VERSION = 1
PROLOGUE = b"mlvpn native 1"
MAC_BYTES = 16
COOKIE_BYTES = 16
COOKIE_NONCE_BYTES = 24

_HEAD = struct.Struct(">BI")
_INIT_PAYLOAD = struct.Struct(">BQIIIQH")
_RESPONSE_PAYLOAD = struct.Struct(">BQIBBIH")
_CONTINUED = 1
_CLEARTEXT = 2

INIT_BYTES = _HEAD.size + INIT_OVERHEAD_BYTES + _INIT_PAYLOAD.size + 2 * MAC_BYTES
INIT_LIMIT_BYTES = INIT_BYTES + 256
RESPONSE_BYTES = _HEAD.size + RESPONSE_OVERHEAD_BYTES + _RESPONSE_PAYLOAD.size + MAC_BYTES
RESPONSE_LIMIT_BYTES = INIT_BYTES
COOKIE_DATAGRAM_BYTES = _HEAD.size + COOKIE_NONCE_BYTES + COOKIE_BYTES + TAG_BYTES


class Feature(IntFlag):
    """What an end understands or wishes; bits not known here are kept and mean nothing."""

    SLICES = 1
    CLEARTEXT = 2


class Init(NamedTuple):
    """An INIT taken apart, nothing in it verified."""

    sender: int
    noise: bytes


class Response(NamedTuple):
    """A RESPONSE taken apart, nothing in it verified."""

    receiver: int
    noise: bytes


@dataclass(frozen=True, slots=True)
class InitPayload:
    """What the client says about itself, under the seal; fields as in the table above."""

    version: int
    instance: int
    features: Feature
    aes_cost_ns: int
    chacha_cost_ns: int
    continues: int
    mtu_bytes: int

    def pack(self) -> bytes:
        """Return the bytes to seal."""
        costs = (min(cost, 0xFFFFFFFF) for cost in (self.aes_cost_ns, self.chacha_cost_ns))
        return _INIT_PAYLOAD.pack(self.version, self.instance, self.features, *costs, self.continues, self.mtu_bytes)

    @classmethod
    def unpack(cls, payload: bytes) -> InitPayload:
        """Read an opened payload of at least the table's length; what follows is ignored."""
        version, instance, features, aes, chacha, continues, mtu = _INIT_PAYLOAD.unpack_from(payload)
        return cls(version, instance, Feature(features), aes, chacha, continues, mtu)


@dataclass(frozen=True, slots=True)
class ResponsePayload:
    """What the server says and decides, under the seal; fields as in the table above."""

    version: int
    instance: int
    features: Feature
    cipher: int
    continued: bool
    cleartext: bool
    sender: int
    mtu_bytes: int

    def pack(self) -> bytes:
        """Return the bytes to seal."""
        flags = _CONTINUED * self.continued | _CLEARTEXT * self.cleartext
        return _RESPONSE_PAYLOAD.pack(
            self.version, self.instance, self.features, self.cipher, flags, self.sender, self.mtu_bytes
        )

    @classmethod
    def unpack(cls, payload: bytes) -> ResponsePayload:
        """Read an opened payload of at least the table's length; what follows is ignored."""
        version, instance, features, cipher, flags, sender, mtu = _RESPONSE_PAYLOAD.unpack_from(payload)
        continued, cleartext = bool(flags & _CONTINUED), bool(flags & _CLEARTEXT)
        return cls(version, instance, Feature(features), cipher, continued, cleartext, sender, mtu)


def init_prologue(sender: int) -> bytes:
    """Return the Noise prologue of the handshake that the client starts under index ``sender``."""
    return PROLOGUE + _HEAD.pack(DatagramType.HANDSHAKE_INIT, sender)


def pack_init(sender: int, noise: bytes, mac1_key: bytes) -> bytes:
    """Return an INIT without a cookie."""
    covered = _HEAD.pack(DatagramType.HANDSHAKE_INIT, sender) + noise
    return covered + _mac(mac1_key, covered) + bytes(MAC_BYTES)


def unpack_init(datagram: bytes) -> Init:
    """Take an INIT apart; PeerError if its length cannot be right. Costs no cryptography."""
    if not INIT_BYTES <= len(datagram) <= INIT_LIMIT_BYTES:
        raise PeerError(f"an INIT of {len(datagram)} bytes")
    sender: int = _HEAD.unpack_from(datagram)[1]
    return Init(sender, datagram[_HEAD.size : -2 * MAC_BYTES])


def add_cookie(init: bytes, cookie: bytes) -> bytes:
    """Return ``init`` with the mac2 that ``cookie`` makes."""
    return init[:-MAC_BYTES] + _mac(cookie, init[:-MAC_BYTES])


def init_identity(init: bytes) -> bytes:
    """Return what is the same in every copy of one INIT, whatever cookie the copy carries."""
    return init[:-MAC_BYTES]


def init_mac1_is_valid(init: bytes, mac1_key: bytes) -> bool:
    """Say whether the sender knows this end's public key."""
    return hmac.compare_digest(init_mac1(init), _mac(mac1_key, init[: -2 * MAC_BYTES]))


def init_mac1(init: bytes) -> bytes:
    """Return the first mac of an INIT."""
    return init[-2 * MAC_BYTES : -MAC_BYTES]


def init_mac2_is_valid(init: bytes, cookie: bytes) -> bool:
    """Say whether the sender was given ``cookie``."""
    return hmac.compare_digest(init[-MAC_BYTES:], _mac(cookie, init[:-MAC_BYTES]))


def pack_response(receiver: int, noise: bytes, mac1_key: bytes) -> bytes:
    """Return a RESPONSE."""
    covered = _HEAD.pack(DatagramType.HANDSHAKE_RESPONSE, receiver) + noise
    return covered + _mac(mac1_key, covered)


def unpack_response(datagram: bytes) -> Response:
    """Take a RESPONSE apart; PeerError if its length cannot be right. Costs no cryptography."""
    if not RESPONSE_BYTES <= len(datagram) <= RESPONSE_LIMIT_BYTES:
        raise PeerError(f"a RESPONSE of {len(datagram)} bytes")
    return Response(_HEAD.unpack_from(datagram)[1], datagram[_HEAD.size : -MAC_BYTES])


def response_mac1_is_valid(response: bytes, mac1_key: bytes) -> bool:
    """Say whether the sender knows this end's public key."""
    return hmac.compare_digest(response[-MAC_BYTES:], _mac(mac1_key, response[:-MAC_BYTES]))


def pack_cookie(receiver: int, cookie: bytes, init: bytes, nonce: bytes, key: bytes) -> bytes:
    """Return the COOKIE that answers ``init``; ``key`` is of :func:`cookie_key`, ``nonce`` is random."""
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(cookie, init_mac1(init), nonce, key)
    return _HEAD.pack(DatagramType.COOKIE, receiver) + nonce + sealed


def cookie_receiver(datagram: bytes) -> int:
    """Return whom a COOKIE is for; PeerError if its length cannot be right."""
    if len(datagram) != COOKIE_DATAGRAM_BYTES:
        raise PeerError(f"a COOKIE of {len(datagram)} bytes")
    receiver: int = _HEAD.unpack_from(datagram)[1]
    return receiver


def open_cookie(datagram: bytes, init: bytes, key: bytes) -> bytes:
    """Return the cookie in a COOKIE datagram that answers ``init``; PeerError if it is not authentic."""
    sealed_at = _HEAD.size + COOKIE_NONCE_BYTES
    nonce, sealed = datagram[_HEAD.size : sealed_at], datagram[sealed_at:]
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, init_mac1(init), nonce, key)
    except nacl.exceptions.CryptoError:
        raise PeerError("a COOKIE does not authenticate") from None


def mac1_key(public: bytes) -> bytes:
    """Return the key of the macs in datagrams for the owner of ``public``."""
    return hashlib.blake2s(b"mac1----" + public).digest()


def cookie_key(public: bytes) -> bytes:
    """Return the key that seals the cookies which the owner of ``public`` gives."""
    return hashlib.blake2s(b"cookie--" + public).digest()


def _mac(key: bytes, data: bytes) -> bytes:
    return hashlib.blake2s(data, key=key, digest_size=MAC_BYTES).digest()
