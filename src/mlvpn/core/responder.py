"""The server's half of the handshake.

Owns which INIT is answered and when the session it makes becomes real. Does not own the choice of the cipher
(``crypto.aead``) or who passes under flood (``core.flood``).

An INIT is checked in the order of cost: length, mac1, copy of one already answered, flood, Noise. A copy gets the very
same RESPONSE, wherever it comes from, and costs no public-key work.

An authentic INIT may still be a recorded one, played again: without a clock to compare (routers have none) it cannot be
told apart. So it never touches what is in use. It makes a *pending* session, which becomes real when the peer first
sends something authentic under it (``confirm``), which only the holder of that INIT's ephemeral key can do.
At most ``PENDING`` are remembered, for ``PENDING_NS``; the oldest gives way.

    INIT --> pending --confirm--> confirmed (remembered until its time is over, for late copies of its INIT)
             pending --PENDING_NS, or displaced, or a younger one confirmed--> retired
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from mlvpn.core.agreement import Notice, Offer, Outbox, Path, Random, Session, describe, new_index
from mlvpn.core.flood import FloodGate, Verdict
from mlvpn.crypto.aead import Cipher, choose_cipher
from mlvpn.crypto.keys import StaticKeys
from mlvpn.errors import PeerError
from mlvpn.units import NS_PER_S
from mlvpn.wire.handshake import (
    COOKIE_NONCE_BYTES,
    VERSION,
    Feature,
    Init,
    InitPayload,
    ResponsePayload,
    cookie_key,
    init_identity,
    init_mac1_is_valid,
    init_prologue,
    mac1_key,
    pack_cookie,
    pack_response,
    unpack_init,
)
from mlvpn.wire.noise import KEY_BYTES, HandshakeState

PENDING_NS = 5 * NS_PER_S
PENDING = 128
"""More than the flood gate admits within PENDING_NS without a cookie (100): replayed INITs displace nobody's."""


@dataclass(slots=True)
class _Answer:
    """One answered INIT."""

    session: Session
    response: bytes
    path: Path
    expires_ns: int
    confirmed_before: int
    """How many sessions had been confirmed when this one was made."""
    confirmed: bool = False


class _Arrival(NamedTuple):
    """An INIT that may be answered."""

    datagram: bytes
    init: Init
    path: Path
    now_ns: int


class Responder:
    """Answers handshakes."""

    def __init__(self, keys: StaticKeys, instance: int, offer: Offer, random: Random, outbox: Outbox) -> None:
        self.offer = offer
        self._keys = keys
        self._instance = instance
        self._random = random
        self._out = outbox
        self._receive_mac1_key = mac1_key(keys.public)
        self._send_mac1_key = mac1_key(keys.peer_public)
        self._cookie_key = cookie_key(keys.public)
        self._gate = FloodGate(random)
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        """By the identity of the INIT, oldest first."""
        self._peer_instance = 0
        self._unconfirmed = 0
        """Sessions that expired one after the other without any confirmed between."""

    def receive_init(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Answer an INIT, ask for a cookie, or drop it."""
        try:
            init = unpack_init(datagram)
        except PeerError:
            self._out.drops.bad_length += 1
            return
        if not init_mac1_is_valid(datagram, self._receive_mac1_key):
            self._refuse_stranger(path, now_ns)
        elif (answer := self._answers.get(init_identity(datagram))) is not None:
            self._out.counters.response_repeated += 1
            self._out.sends.append((path, answer.response))
        else:
            self._judge(_Arrival(datagram, init, path, now_ns))

    def _refuse_stranger(self, path: Path, now_ns: int) -> None:
        self._out.drops.bad_mac1 += 1
        link, address = describe(path)
        text = (
            f"link {link}: the handshake from {address} does not know this server's key: "
            "is the password (or peer_key) the same at both ends?"
        )
        self._out.warn(Notice.STRANGER, text, now_ns)

    def _judge(self, arrival: _Arrival) -> None:
        verdict = self._gate.judge(arrival.datagram, arrival.path[1], arrival.now_ns)
        if verdict is Verdict.ADMIT:
            self._open(arrival)
        elif verdict is Verdict.REFUSE:
            self._out.drops.rate_limited += 1
        else:
            self._ask_cookie(arrival)

    def _ask_cookie(self, arrival: _Arrival) -> None:
        self._out.drops.cookie_wanted += 1
        cookie = self._gate.cookie(arrival.path[1], arrival.now_ns)
        nonce = self._random(COOKIE_NONCE_BYTES)
        datagram = pack_cookie(arrival.init.sender, cookie, arrival.datagram, nonce, self._cookie_key)
        self._out.sends.append((arrival.path, datagram))
        self._warn(Notice.FLOOD, arrival, "is one of a flood: senders must prove their address first")

    def _open(self, arrival: _Arrival) -> None:
        noise = HandshakeState(
            prologue=init_prologue(arrival.init.sender),
            static_private=self._keys.private,
            ephemeral_private=self._random(KEY_BYTES),
            psk=self._keys.psk,
            initiator_public=self._keys.peer_public,
        )
        try:
            payload = InitPayload.unpack(noise.consume_init(arrival.init.noise))
        except PeerError:
            self._out.drops.not_authentic += 1
            self._warn(Notice.NOT_AUTHENTIC, arrival, "is not from the configured peer: is peer_key its public key?")
            return
        cipher = choose_cipher(self.offer.costs, _costs(payload))
        if payload.version != VERSION:
            self._out.drops.unsupported_version += 1
            said = f"is of version {payload.version}, this end speaks {VERSION}: install the same release at both ends"
            self._warn(Notice.VERSION, arrival, said)
        elif cipher is None:
            self._out.drops.no_common_cipher += 1
            self._warn(Notice.CIPHER, arrival, "has no cipher this end can: install the same release at both ends")
        else:
            self._answer(arrival, noise, payload, cipher)

    def _answer(self, arrival: _Arrival, noise: HandshakeState, payload: InitPayload, cipher: Cipher) -> None:
        index = new_index(self._random, {answer.session.local_index: answer for answer in self._answers.values()})
        decision = self._decide(payload, cipher, index)
        sealed = noise.create_response(decision.pack())
        receive_key, send_key = noise.split()
        session = Session(
            send_key=send_key,
            receive_key=receive_key,
            local_index=index,
            remote_index=arrival.init.sender,
            cipher=cipher,
            cleartext=decision.cleartext,
            peer_instance=payload.instance,
            peer_features=payload.features,
            peer_mtu_bytes=payload.mtu_bytes,
            continued=decision.continued,
            initiator=False,
        )
        response = pack_response(arrival.init.sender, sealed, self._send_mac1_key)
        self._remember(arrival, session, response)
        self._out.sends.append((arrival.path, response))
        self._out.sessions.append(session)
        self._out.counters.response_sent += 1
        self._out.counters.agreed += 1

    def _decide(self, payload: InitPayload, cipher: Cipher, index: int) -> ResponsePayload:
        """Settle what the client asked for; ``continued`` only when both ends name each other."""
        return ResponsePayload(
            version=VERSION,
            instance=self._instance,
            features=self.offer.wire_features(),
            cipher=cipher,
            continued=payload.instance == self._peer_instance and payload.continues == self._instance,
            cleartext=self.offer.cleartext and Feature.CLEARTEXT in payload.features,
            sender=index,
            mtu_bytes=self.offer.mtu_bytes,
        )

    def _remember(self, arrival: _Arrival, session: Session, response: bytes) -> None:
        confirmed_before = self._out.counters.confirmed
        answer = _Answer(session, response, arrival.path, arrival.now_ns + PENDING_NS, confirmed_before)
        self._answers[init_identity(arrival.datagram)] = answer
        if len(self._answers) > PENDING:
            self._retire(next(iter(self._answers)))

    def _warn(self, kind: Notice, arrival: _Arrival, said: str) -> None:
        link, address = describe(arrival.path)
        self._out.warn(kind, f"link {link}: the handshake from {address} {said}", arrival.now_ns)

    def confirm(self, local_index: int) -> None:
        """Learn that the peer has sent something authentic under a session: it is the one in use now.

        Older pending sessions are retired: what the peer began before, it has left behind.
        """
        confirmed = [i for i, answer in self._answers.items() if answer.session.local_index == local_index]
        if not confirmed or self._answers[confirmed[0]].confirmed:
            return
        answer = self._answers[confirmed[0]]
        answer.confirmed = True
        self._peer_instance = answer.session.peer_instance
        self._unconfirmed = 0
        self._out.counters.confirmed += 1
        for identity in list(self._answers):
            if identity == confirmed[0]:
                break
            if not self._answers[identity].confirmed:
                self._retire(identity)

    def forget(self) -> None:
        """Hold no association any more: what is agreed next begins anew."""
        self._peer_instance = 0
        for identity in list(self._answers):
            self._retire(identity)

    def _retire(self, identity: bytes) -> None:
        answer = self._answers.pop(identity)
        if not answer.confirmed:
            self._out.retired.append(answer.session.local_index)
            self._out.counters.expired += 1

    def tick(self, now_ns: int) -> None:
        """Retire what was not used in time."""
        while self._answers:
            identity, answer = next(iter(self._answers.items()))
            if now_ns < answer.expires_ns:
                break
            self._retire(identity)
            if not answer.confirmed:
                self._complain_of_silence(answer, now_ns)

    def next_deadline_ns(self) -> int | None:
        """Say when the oldest answer's time is over."""
        return next((answer.expires_ns for answer in self._answers.values()), None)

    def _complain_of_silence(self, answer: _Answer, now_ns: int) -> None:
        if answer.confirmed_before != self._out.counters.confirmed:
            return  # the peer chose the answer to another of its INITs
        self._unconfirmed += 1
        if self._unconfirmed < 3:  # one or two are lost answers
            return
        link, address = describe(answer.path)
        text = (
            f"link {link}: handshakes from {address} are answered but never completed: "
            "do answers reach it, and is the psk the same at both ends? (Or someone repeats recorded ones.)"
        )
        self._out.warn(Notice.NEVER_COMPLETED, text, now_ns)


def _costs(payload: InitPayload) -> dict[Cipher, int]:
    costs = {Cipher.AES_256_GCM: payload.aes_cost_ns, Cipher.CHACHA20_POLY1305: payload.chacha_cost_ns}
    return {cipher: cost_ns for cipher, cost_ns in costs.items() if cost_ns}
