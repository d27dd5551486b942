"""The ciphers against published vectors, and the choice between them."""

from __future__ import annotations

import itertools

import pytest
from cryptography.exceptions import InvalidTag

from mlvpn.crypto.aead import TAG_BYTES, Cipher, choose_cipher, cipher_costs, new_aead

AES, CHACHA = Cipher.AES_256_GCM, Cipher.CHACHA20_POLY1305


def test_numbers_are_those_of_the_wire() -> None:
    assert (AES, CHACHA) == (1, 2)


@pytest.mark.parametrize(
    ("cipher", "ciphertext"),
    [
        # NIST GCM test case 14: key, nonce and plaintext all zero.
        (AES, "cea7403d4d606b6e074ec5d3baf39d18"),
        # The ChaCha20 key stream of RFC 8439 A.1 vector 2: key and nonce zero, counter 1.
        (CHACHA, "9f07e7be5551387a98ba977c732d080d"),
    ],
    ids=["aes", "chacha"],
)
def test_known_answer(cipher: Cipher, ciphertext: str) -> None:
    assert new_aead(cipher, bytes(32)).encrypt(bytes(12), bytes(16), b"")[:16].hex() == ciphertext


@pytest.mark.parametrize("cipher", Cipher)
def test_opens_what_it_sealed_and_nothing_else(cipher: Cipher) -> None:
    aead = new_aead(cipher, bytes(range(32)))
    sealed = aead.encrypt(bytes(12), b"body", b"header")
    assert len(sealed) == 4 + TAG_BYTES
    assert aead.decrypt(bytes(12), sealed, b"header") == b"body"
    with pytest.raises(InvalidTag):
        aead.decrypt(bytes(12), sealed, b"headeR")


def test_costs_come_from_the_clock() -> None:
    clock = itertools.count(0, 64_000)
    assert cipher_costs(lambda: next(clock)) == {AES: 1000, CHACHA: 1000}


@pytest.mark.parametrize(
    ("local", "peer", "chosen"),
    [
        ({AES: 1000, CHACHA: 2000}, {AES: 1200, CHACHA: 1900}, AES),
        ({AES: 1000, CHACHA: 2000}, {AES: 30_000, CHACHA: 9000}, CHACHA),
        ({AES: 5, CHACHA: 5}, {AES: 5, CHACHA: 5}, AES),
        ({CHACHA: 9000}, {AES: 1, CHACHA: 9000}, CHACHA),
        ({AES: 1}, {CHACHA: 1}, None),
        ({}, {}, None),
    ],
)
def test_the_slower_end_decides(local: dict[Cipher, int], peer: dict[Cipher, int], chosen: Cipher | None) -> None:
    assert choose_cipher(local, peer) == chosen
    assert choose_cipher(peer, local) == chosen
