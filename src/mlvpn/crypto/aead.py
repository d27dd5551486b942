"""The ciphers a native session can be sealed with.

Owns their names and numbers as the handshake negotiates them. Does not own sealing: ``burst`` does.
"""

from __future__ import annotations

from enum import IntEnum


class Cipher(IntEnum):
    """An AEAD with a 32-byte key, a 12-byte nonce and a 16-byte tag."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2
