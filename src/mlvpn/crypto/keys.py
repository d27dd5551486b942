"""Static keys: how they are made, written down, and derived from MLVPN's single password.

Owns key pairs, their text form (base64 of 32 bytes, as WireGuard's ``wg`` writes it) and the derivation from a
password. Does not own files or configuration: whoever reads a key from a file adds the place to the error.

**From a password.** MLVPN's configuration has one ``password``, the same at both ends, and nothing else. Argon2id
stretches it to 96 bytes: the client's private key, the server's private key, and the psk. Both ends compute all
three and keep what their role needs. The handshake is then the same as with key pairs, forward secrecy included.

**Why the salt is fixed.** A random salt would have to reach the other end before the first message, and that message
is already sealed with the derived keys; a salt in the configuration would be one more secret-looking line to copy for
those who want to copy one line only. So the salt only separates this use of a password from others. The price: who
prepares a table of guesses can use it against every tunnel that uses a password. What stands against that is the
cost of each guess (64 MiB and three passes, about 0.2 s) and a good password; key pairs do not have this weakness.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Literal

import cryptography.hazmat.backends.openssl.backend  # noqa: F401 (x25519 loads it late: see daemon.worker)
import nacl.pwhash.argon2id
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

KEY_BYTES = 32
NO_PSK = bytes(KEY_BYTES)
"""Used when key pairs are configured without a psk, as WireGuard does."""

_PASSWORD_SALT = b"mlvpn native 1.0"
_PASSWORD_MEMORY_BYTES = 64 * 1024 * 1024
_PASSWORD_PASSES = 3
"""With 64 MiB, RFC 9106 section 4 (second recommended option) asks for three passes."""

Role = Literal["client", "server"]


@dataclass(frozen=True, slots=True)
class StaticKeys:
    """What one end must know before it can shake hands. Nothing of it shows in ``repr``."""

    private: bytes = field(repr=False)
    peer_public: bytes = field(repr=False)
    psk: bytes = field(default=NO_PSK, repr=False)

    @property
    def public(self) -> bytes:
        """This end's public key."""
        return public_of(self.private)


def generate_private() -> bytes:
    """Return a new random private key."""
    return X25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def public_of(private: bytes) -> bytes:
    """Return the public key that belongs to ``private``."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def to_text(key: bytes) -> str:
    """Write a key as 44 base64 characters."""
    return base64.b64encode(key).decode("ascii")


def from_text(text: str) -> bytes:
    """Read a key from its base64 form; ValueError says what is wrong, without repeating the text (it is a secret)."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64: a key is 44 characters, as `mlvpn genkey` prints it") from None
    if len(key) != KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes, a key has {KEY_BYTES}: make one with `mlvpn genkey`")
    return key


def from_password(password: str, role: Role) -> StaticKeys:
    """Derive the keys of ``role`` from the password both ends share. Takes about 0.2 s and 64 MiB."""
    secret = nacl.pwhash.argon2id.kdf(
        3 * KEY_BYTES,
        password.encode("utf-8"),
        _PASSWORD_SALT,
        opslimit=_PASSWORD_PASSES,
        memlimit=_PASSWORD_MEMORY_BYTES,
    )
    client, server, psk = (secret[i : i + KEY_BYTES] for i in range(0, len(secret), KEY_BYTES))
    own, other = (client, server) if role == "client" else (server, client)
    return StaticKeys(private=own, peer_public=public_of(other), psk=psk)
