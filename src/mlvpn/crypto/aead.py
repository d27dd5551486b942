"""The two ciphers datagrams are sealed with, and the choice between them.

Owns the cipher numbers of the wire, construction, measured cost, and the choice. Does not own nonces or headers.
Both take a 32-byte key, a 12-byte nonce and add a 16-byte tag. AES-256-GCM wins where the processor has AES
instructions; ChaCha20-Poly1305 wins by far where it has not (small routers), so each end measures and tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16

_SAMPLE_BYTES = 1400
_SAMPLES = 5
_SEALS_PER_SAMPLE = 64
"""5 x 64 seals of 1400 bytes are about 1 ms per cipher on a server and 10 ms on a small router."""


class Cipher(IntEnum):
    """AEAD ciphers by their number on the wire."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


class Aead(Protocol):
    """A keyed cipher, as the cryptography package has them; ``decrypt`` raises InvalidTag."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None, /) -> bytes:
        """Return ciphertext and tag."""

    def decrypt(self, nonce: bytes, data: bytes | memoryview, associated_data: bytes | None, /) -> bytes:
        """Return the plaintext or raise ``cryptography.exceptions.InvalidTag``."""


def new_aead(cipher: Cipher, key: bytes) -> Aead:
    """Return ``cipher`` keyed with the 32-byte ``key``."""
    assert len(key) == KEY_BYTES
    if cipher is Cipher.AES_256_GCM:
        return AESGCM(key)
    return ChaCha20Poly1305(key)


def cipher_costs(clock: Callable[[], int]) -> dict[Cipher, int]:
    """Measure each cipher: nanoseconds per 1400-byte datagram by ``clock`` (ns, monotonic). Takes a few ms."""
    return {cipher: _cost_ns(cipher, clock) for cipher in Cipher}


def choose_cipher(local_costs: Mapping[Cipher, int], peer_costs: Mapping[Cipher, int]) -> Cipher | None:
    """Return the cipher that costs the slower end least; None when the ends have none in common.

    Both maps hold nanoseconds for the ciphers that end can do. Equal costs choose the lower number.
    """
    shared = sorted(local_costs.keys() & peer_costs.keys())
    return min(shared, key=lambda cipher: max(local_costs[cipher], peer_costs[cipher]), default=None)


def _cost_ns(cipher: Cipher, clock: Callable[[], int]) -> int:
    """Return the best of several samples: what disturbs a measurement only ever makes it longer."""
    aead, nonce, datagram = new_aead(cipher, bytes(KEY_BYTES)), bytes(NONCE_BYTES), bytes(_SAMPLE_BYTES)
    best_ns = None
    for _ in range(_SAMPLES):
        began_ns = clock()
        for _ in range(_SEALS_PER_SAMPLE):
            aead.encrypt(nonce, datagram, None)
        took_ns = clock() - began_ns
        best_ns = took_ns if best_ns is None else min(best_ns, took_ns)
    assert best_ns is not None
    return max(1, best_ns // _SEALS_PER_SAMPLE)
