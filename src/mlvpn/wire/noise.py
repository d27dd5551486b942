"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s: the one handshake pattern of the native protocol, and nothing else of Noise.

Owns the mathematics of the two handshake messages. Does not own their envelope (``wire.handshake``), when they are
sent (``core``), nor the transport phase: :meth:`HandshakeState.split` hands out two keys and that is the end of it.

The pattern, with the responder's static key known to the initiator beforehand::

    <- s
    ...
    -> e, es, s, ss          create_init / consume_init
    <- e, ee, se, psk        create_response / consume_response

Contract: randomness comes in as the ephemeral private key, which must be used for one handshake only. A message that
does not authenticate raises :class:`~mlvpn.errors.PeerError` and leaves the state as it was, so that a forgery cannot
spoil a handshake in progress.

Source: The Noise Protocol Framework, revision 34, sections 4, 5, 9 (http://noiseprotocol.org/noise.html).
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mlvpn.errors import PeerError

PROTOCOL_NAME = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
KEY_BYTES = 32
"""Of every X25519 key, the psk, every symmetric key and every hash."""
TAG_BYTES = 16

INIT_OVERHEAD_BYTES = KEY_BYTES + (KEY_BYTES + TAG_BYTES) + TAG_BYTES
"""What the first message adds to its payload: e, sealed s, tag of the payload."""
RESPONSE_OVERHEAD_BYTES = KEY_BYTES + TAG_BYTES
"""What the second message adds to its payload: e, tag of the payload."""


class CipherState:
    """A symmetric key with the counter that is its nonce."""

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._nonce = 0

    def encrypt(self, associated: bytes, plaintext: bytes) -> bytes:
        """Seal ``plaintext``; the result is 16 bytes longer."""
        sealed = self._aead.encrypt(self._nonce_bytes(), plaintext, associated)
        self._nonce += 1
        return sealed

    def decrypt(self, associated: bytes, ciphertext: bytes) -> bytes:
        """Open ``ciphertext``; raise PeerError, and do not count, when it is not authentic."""
        try:
            plaintext = self._aead.decrypt(self._nonce_bytes(), ciphertext, associated)
        except InvalidTag:
            raise PeerError("a handshake message does not authenticate") from None
        self._nonce += 1
        return plaintext

    def _nonce_bytes(self) -> bytes:
        return struct.pack("<4xQ", self._nonce)


class SymmetricState:
    """Chaining key and transcript hash: everything said so far, mixed together."""

    def __init__(self, prologue: bytes) -> None:
        # Names longer than one hash are hashed first (section 5.2); ours has 37 bytes.
        self.transcript = hashlib.blake2s(PROTOCOL_NAME).digest()
        self._chaining_key = self.transcript
        self._cipher: CipherState | None = None
        self.mix_hash(prologue)

    def copy(self) -> SymmetricState:
        """Return an independent copy, to be kept only if the message proves authentic."""
        twin = copy.copy(self)
        twin._cipher = copy.copy(self._cipher)
        return twin

    def mix_hash(self, data: bytes) -> None:
        """Add public ``data`` to the transcript."""
        self.transcript = hashlib.blake2s(self.transcript + data).digest()

    def mix_key(self, secret: bytes) -> None:
        """Add a secret to the keys."""
        self._chaining_key, key = _hkdf(self._chaining_key, secret, 2)
        self._cipher = CipherState(key)

    def mix_key_and_hash(self, psk: bytes) -> None:
        """Add the psk to keys and transcript."""
        self._chaining_key, public, key = _hkdf(self._chaining_key, psk, 3)
        self.mix_hash(public)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        """Seal under the keys and transcript so far, then add the ciphertext to the transcript."""
        assert self._cipher is not None, "this pattern mixes a key before it seals anything"
        ciphertext = self._cipher.encrypt(self.transcript, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """Open what :meth:`encrypt_and_hash` sealed."""
        assert self._cipher is not None, "this pattern mixes a key before it opens anything"
        plaintext = self._cipher.decrypt(self.transcript, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Return the two transport keys: initiator to responder, responder to initiator."""
        first, second = _hkdf(self._chaining_key, b"", 2)
        return first, second


class HandshakeState:
    """One end of one handshake. The initiator calls create_init, consume_response; the responder the other two."""

    def __init__(
        self,
        *,
        prologue: bytes,
        static_private: bytes,
        ephemeral_private: bytes,
        psk: bytes,
        responder_public: bytes | None = None,
        initiator_public: bytes | None = None,
    ) -> None:
        """Start as initiator when ``responder_public`` is given, as responder when it is not.

        ``initiator_public`` is the only key a responder takes; None takes any.
        """
        self._static = X25519PrivateKey.from_private_bytes(static_private)
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral_private)
        self._psk = psk
        self.remote_static = responder_public or initiator_public
        self._remote_ephemeral = b""
        self._symmetric = SymmetricState(prologue)
        self._symmetric.mix_hash(responder_public or _public(self._static))

    def create_init(self, payload: bytes) -> bytes:
        """Initiator: ``-> e, es, s, ss`` and the sealed ``payload``."""
        assert self.remote_static is not None, "an initiator knows its responder"
        symmetric, ephemeral = self._symmetric, _public(self._ephemeral)
        _mix_ephemeral(symmetric, ephemeral)
        symmetric.mix_key(_exchange(self._ephemeral, self.remote_static))
        sealed_static = symmetric.encrypt_and_hash(_public(self._static))
        symmetric.mix_key(_exchange(self._static, self.remote_static))
        return ephemeral + sealed_static + symmetric.encrypt_and_hash(payload)

    def consume_init(self, message: bytes) -> bytes:
        """Responder: take the first message, return its payload; afterwards ``remote_static`` is who sent it."""
        if len(message) < INIT_OVERHEAD_BYTES:
            raise PeerError("a handshake message is too short")
        symmetric, static_end = self._symmetric.copy(), KEY_BYTES + KEY_BYTES + TAG_BYTES
        ephemeral = message[:KEY_BYTES]
        _mix_ephemeral(symmetric, ephemeral)
        symmetric.mix_key(_exchange(self._static, ephemeral))
        static = symmetric.decrypt_and_hash(message[KEY_BYTES:static_end])
        if self.remote_static is not None and not hmac.compare_digest(static, self.remote_static):
            raise PeerError("the handshake is sealed with a key that is not the peer's")
        symmetric.mix_key(_exchange(self._static, static))
        payload = symmetric.decrypt_and_hash(message[static_end:])
        self._symmetric, self._remote_ephemeral, self.remote_static = symmetric, ephemeral, static
        return payload

    def create_response(self, payload: bytes) -> bytes:
        """Responder: ``<- e, ee, se, psk`` and the sealed ``payload``."""
        assert self.remote_static is not None, "a response follows a consumed init"
        symmetric, ephemeral = self._symmetric, _public(self._ephemeral)
        _mix_ephemeral(symmetric, ephemeral)
        symmetric.mix_key(_exchange(self._ephemeral, self._remote_ephemeral))
        symmetric.mix_key(_exchange(self._ephemeral, self.remote_static))
        symmetric.mix_key_and_hash(self._psk)
        return ephemeral + symmetric.encrypt_and_hash(payload)

    def consume_response(self, message: bytes) -> bytes:
        """Initiator: take the second message, return its payload."""
        if len(message) < RESPONSE_OVERHEAD_BYTES:
            raise PeerError("a handshake message is too short")
        symmetric, ephemeral = self._symmetric.copy(), message[:KEY_BYTES]
        _mix_ephemeral(symmetric, ephemeral)
        symmetric.mix_key(_exchange(self._ephemeral, ephemeral))
        symmetric.mix_key(_exchange(self._static, ephemeral))
        symmetric.mix_key_and_hash(self._psk)
        payload = symmetric.decrypt_and_hash(message[KEY_BYTES:])
        self._symmetric = symmetric
        return payload

    def split(self) -> tuple[bytes, bytes]:
        """Return the transport keys, initiator's sending key first; after the second message."""
        return self._symmetric.split()

    @property
    def handshake_hash(self) -> bytes:
        """The transcript: the same 32 bytes at both ends, different in every handshake."""
        return self._symmetric.transcript


def _mix_ephemeral(symmetric: SymmetricState, public: bytes) -> None:
    symmetric.mix_hash(public)
    symmetric.mix_key(public)  # only in psk patterns (section 9.2): the psk must never meet a key without randomness


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _exchange(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # the result is all zeros: a low-order point, which no honest peer sends
        raise PeerError("a handshake message holds a public key of low order") from None


def _hkdf(chaining_key: bytes, secret: bytes, outputs: int) -> list[bytes]:
    temporary = hmac.digest(chaining_key, secret, "blake2s")
    keys: list[bytes] = []
    for number in range(1, outputs + 1):
        previous = keys[-1] if keys else b""
        keys.append(hmac.digest(temporary, previous + bytes((number,)), "blake2s"))
    return keys
