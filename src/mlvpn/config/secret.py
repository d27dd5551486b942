"""A value that must never reach a log, a traceback or a screen by accident.

Owns the wrapper only. ``reveal()`` is the one way to the bytes, so a search for it finds every use.
"""

from __future__ import annotations

import hmac


class Secret:
    """Bytes that do not show themselves."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """Return the bytes; the caller keeps them out of messages."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)
