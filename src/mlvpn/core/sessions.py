"""The keys of one association: which session seals now, which ones can still be opened, when new ones are due.

    agreed --(client: at once; server: first authentic datagram under it)--> current --next one--> previous --30 s-->
    gone

A rekey loses nothing: the previous session can be opened until long after its last datagram must have come.

Owns sealers and openers by index. Does not own the handshake that makes sessions (`handshake`), nor what a new
association resets (`tunnel`).
"""

from __future__ import annotations

from typing import Final

from mlvpn.burst import Opener, Sealer
from mlvpn.core.agreement import Session
from mlvpn.core.handshake import REJECT_AFTER_NS, REKEY_AFTER_DATAGRAMS, REKEY_AFTER_NS
from mlvpn.units import NS_PER_S

KEEP_PREVIOUS_NS: Final = 30 * NS_PER_S


class _Held:
    """A session and its two directions."""

    __slots__ = ("opener", "sealer", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.sealer = Sealer(session.cipher, session.send_key, session.remote_index, session.cleartext)
        self.opener = Opener(session.cipher, session.receive_key, session.local_index, session.cleartext)


class Sessions:
    """All sessions whose datagrams are accepted."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}
        self._current: _Held | None = None
        self._current_since_ns = 0
        self._expiry_ns: dict[int, int] = {}
        self.established_ns: int | None = None
        """When the present association began."""

    @property
    def current(self) -> Session | None:
        return self._current.session if self._current else None

    @property
    def sealer(self) -> Sealer | None:
        return self._current.sealer if self._current else None

    def opener(self, index: int) -> Opener | None:
        """Return what opens datagrams with this receiver index."""
        held = self._held.get(index)
        return held.opener if held else None

    def add(self, session: Session) -> None:
        """Accept datagrams of a session from now on."""
        self._held[session.local_index] = _Held(session)

    def is_current(self, index: int) -> bool:
        return self._current is not None and self._current.session.local_index == index

    def is_pending(self, index: int) -> bool:
        """Say whether a session has been agreed but never used."""
        return index in self._held and index not in self._expiry_ns and not self.is_current(index)

    def use(self, index: int, now_ns: int) -> Session:
        """Seal with this session from now on; the one before can be opened a while longer."""
        previous, self._current = self._current, self._held[index]
        if previous is not None:
            self._expiry_ns[previous.session.local_index] = now_ns + KEEP_PREVIOUS_NS
        if not self._current.session.continued or self.established_ns is None:
            self.established_ns = now_ns
        self._current_since_ns = now_ns
        return self._current.session

    def retire(self, index: int) -> None:
        """Forget a session that was agreed but never used."""
        if not self.is_current(index):
            self._held.pop(index, None)
            self._expiry_ns.pop(index, None)

    def keep_only(self, index: int) -> None:
        """Forget all other sessions: they belong to an association that is over."""
        self._held = {index: self._held[index]}
        self._expiry_ns.clear()

    def end(self) -> None:
        """Forget the association and all its keys."""
        self._held.clear()
        self._expiry_ns.clear()
        self._current = None
        self.established_ns = None

    def rekey_due(self, sent_datagrams: int, now_ns: int) -> bool:
        """Say whether a client should agree on new keys; ``sent_datagrams``: sealed under the present ones."""
        old = now_ns - self._current_since_ns >= REKEY_AFTER_NS
        return self._current is not None and (old or sent_datagrams >= REKEY_AFTER_DATAGRAMS)

    def too_old(self, now_ns: int) -> bool:
        """Say whether new keys have been due for so long that the present ones must not be used any more."""
        return self._current is not None and now_ns - self._current_since_ns >= REJECT_AFTER_NS

    def tick(self, now_ns: int) -> None:
        """Forget keys that nobody can need any more."""
        for index in [index for index, expiry_ns in self._expiry_ns.items() if now_ns >= expiry_ns]:
            del self._expiry_ns[index]
            self._held.pop(index, None)
