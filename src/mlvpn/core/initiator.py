"""The client's half of the handshake.

Owns when an INIT is sent and which RESPONSE is believed. Does not own the links: an INIT goes out «on every link at
once», because any of them may be the one that works; the copies are one INIT to the server, answered once.

    idle --start--> trying --RESPONSE--> idle      (a session more)
                    trying: INIT four times a second, soon once a second, for ever

Each INIT has its own ephemeral key and index, and the last ``ATTEMPTS`` of them may still be answered: on a link
with seconds of delay the answer to an INIT comes after its successors were sent. Any answer ends them all.
A COOKIE is answered at once with the same INIT and the proof, on the path it came from.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mlvpn.core.agreement import Notice, Offer, Outbox, Path, Random, Session, describe, new_index
from mlvpn.core.flood import TokenBucket
from mlvpn.crypto.aead import Cipher
from mlvpn.crypto.keys import StaticKeys
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_MS, NS_PER_S
from mlvpn.wire.handshake import (
    VERSION,
    InitPayload,
    ResponsePayload,
    add_cookie,
    cookie_key,
    cookie_receiver,
    init_prologue,
    mac1_key,
    open_cookie,
    pack_init,
    response_mac1_is_valid,
    unpack_response,
)
from mlvpn.wire.noise import KEY_BYTES, HandshakeState

FIRST_RETRIES_NS = (250 * NS_PER_MS,) * 4 + (500 * NS_PER_MS,) * 2
"""Often at first: a server that was restarted is back within a second or two, and is to be found at once."""
RETRY_NS = NS_PER_S
ATTEMPTS = 8
"""Answers are awaited for the last 8 INITs: links of up to 6 s round trip can shake hands."""
SILENCE_NS = 5 * NS_PER_S
"""After that long without any answer the log says so."""
ANSWERS_PER_S = 20
"""RESPONSEs and COOKIEs worth opening, per second: an honest server sends a few."""


@dataclass(slots=True)
class _Attempt:
    """One INIT that may still be answered."""

    noise: HandshakeState
    datagram: bytes
    offer: Offer
    continues: int


class Initiator:
    """Begins handshakes and takes their answers."""

    def __init__(
        self, keys: StaticKeys, instance: int, offer: Offer, random: Random, outbox: Outbox, peer: str
    ) -> None:
        self.offer = offer
        self._keys = keys
        self._instance = instance
        self._random = random
        self._out = outbox
        self._peer = peer
        self._send_mac1_key = mac1_key(keys.peer_public)
        self._receive_mac1_key = mac1_key(keys.public)
        self._cookie_key = cookie_key(keys.peer_public)
        self._answers = TokenBucket(ANSWERS_PER_S, ANSWERS_PER_S)
        self._attempts: OrderedDict[int, _Attempt] = OrderedDict()
        self._peer_instance = 0
        self._last_index = 0
        """Of the session agreed last: its RESPONSE still comes in over other links."""
        self._began_ns = 0
        self._tries = 0
        self._heard = False
        """Anything the log already speaks of came in since ``start``."""
        self._retry_ns: int | None = None

    def start(self, now_ns: int) -> None:
        """Begin a handshake; when one is under way already, send its newest INIT again (for a link just opened)."""
        if self._retry_ns is not None and self._attempts:
            self._send(None, next(reversed(self._attempts.values())).datagram)
            return
        self._began_ns, self._tries, self._heard = now_ns, 0, False
        self._try(now_ns)

    def forget(self) -> None:
        """Hold no association any more: what is agreed next begins anew."""
        self._peer_instance = 0
        self._attempts.clear()

    def tick(self, now_ns: int) -> None:
        """Send the next INIT if it is due."""
        if self._retry_ns is None or now_ns < self._retry_ns:
            return
        if now_ns - self._began_ns >= SILENCE_NS and not self._heard:
            self._complain_of_silence(now_ns)
        self._try(now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when the next INIT is due."""
        return self._retry_ns

    def _try(self, now_ns: int) -> None:
        index = new_index(self._random, self._attempts)
        noise = HandshakeState(
            prologue=init_prologue(index),
            static_private=self._keys.private,
            ephemeral_private=self._random(KEY_BYTES),
            psk=self._keys.psk,
            responder_public=self._keys.peer_public,
        )
        datagram = pack_init(index, noise.create_init(self._payload().pack()), self._send_mac1_key)
        self._attempts[index] = _Attempt(noise, datagram, self.offer, self._peer_instance)
        if len(self._attempts) > ATTEMPTS:
            self._attempts.popitem(last=False)
        self._send(None, datagram)
        wait_ns = FIRST_RETRIES_NS[self._tries] if self._tries < len(FIRST_RETRIES_NS) else RETRY_NS
        self._tries += 1
        self._retry_ns = now_ns + wait_ns

    def _payload(self) -> InitPayload:
        return InitPayload(
            version=VERSION,
            instance=self._instance,
            features=self.offer.wire_features(),
            aes_cost_ns=self.offer.costs.get(Cipher.AES_256_GCM, 0),
            chacha_cost_ns=self.offer.costs.get(Cipher.CHACHA20_POLY1305, 0),
            continues=self._peer_instance,
            mtu_bytes=self.offer.mtu_bytes,
        )

    def _send(self, path: Path | None, datagram: bytes) -> None:
        self._out.counters.init_sent += 1
        self._out.sends.append((path, datagram))

    def receive_cookie(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Prove to a server under flood that this end receives at the address it sends from."""
        try:
            attempt = self._attempts.get(cookie_receiver(datagram))
        except PeerError:
            self._out.drops.bad_length += 1
            return
        if attempt is None:
            self._out.drops.unexpected += 1
        elif not self._answers.take(now_ns):
            self._out.drops.rate_limited += 1
        else:
            self._prove(attempt, datagram, path)

    def _prove(self, attempt: _Attempt, datagram: bytes, path: Path) -> None:
        try:
            cookie = open_cookie(datagram, attempt.datagram, self._cookie_key)
        except PeerError:
            self._out.drops.not_authentic += 1
            return
        self._out.counters.cookie_received += 1
        self._send(path, add_cookie(attempt.datagram, cookie))

    def receive_response(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Take the server's answer: checks in the order of their cost."""
        try:
            response = unpack_response(datagram)
        except PeerError:
            self._out.drops.bad_length += 1
            return
        attempt = self._attempts.get(response.receiver)
        if attempt is None:
            self._count_late(response.receiver)
        elif not response_mac1_is_valid(datagram, self._receive_mac1_key):
            self._out.drops.bad_mac1 += 1
        elif not self._answers.take(now_ns):
            self._out.drops.rate_limited += 1
        else:
            self._conclude(attempt, response.receiver, response.noise, path, now_ns)

    def _count_late(self, index: int) -> None:
        if index == self._last_index:
            self._out.drops.duplicate += 1
        else:
            self._out.drops.unexpected += 1

    def _conclude(self, attempt: _Attempt, index: int, noise: bytes, path: Path, now_ns: int) -> None:
        link, address = describe(path)
        try:
            payload = ResponsePayload.unpack(attempt.noise.consume_response(noise))
        except PeerError:
            self._heard = True
            self._out.drops.not_authentic += 1
            text = f"link {link}: the answer from {address} cannot be opened: is the psk the same at both ends?"
            self._out.warn(Notice.NOT_AUTHENTIC, text, now_ns)
            return
        if payload.version != VERSION or payload.cipher not in attempt.offer.costs:
            self._heard = True
            self._out.drops.unsupported_version += 1
            text = f"link {link}: {address} answers with version {payload.version}, cipher {payload.cipher}, "
            self._out.warn(
                Notice.VERSION, text + "which this end cannot: install the same release at both ends", now_ns
            )
            return
        self._agree(attempt, index, payload)

    def _agree(self, attempt: _Attempt, index: int, payload: ResponsePayload) -> None:
        send_key, receive_key = attempt.noise.split()
        session = Session(
            send_key=send_key,
            receive_key=receive_key,
            local_index=index,
            remote_index=payload.sender,
            cipher=Cipher(payload.cipher),
            cleartext=payload.cleartext and attempt.offer.cleartext,
            peer_instance=payload.instance,
            peer_features=payload.features,
            peer_mtu_bytes=payload.mtu_bytes,
            continued=payload.continued and payload.instance == attempt.continues,
            initiator=True,
        )
        self._attempts.clear()
        self._retry_ns = None
        self._peer_instance, self._last_index = payload.instance, index
        self._out.counters.agreed += 1
        self._out.sessions.append(session)

    def _complain_of_silence(self, now_ns: int) -> None:
        text = (
            f"no answer from {self._peer} for {(now_ns - self._began_ns) // NS_PER_S} s: is the server running, "
            "its address right, its UDP port open, the password the same (or the keys each other's) at both ends, "
            'and protocol = "native" at both?'
        )
        self._out.warn(Notice.NO_ANSWER, text, now_ns)
