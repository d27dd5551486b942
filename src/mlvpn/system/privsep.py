"""The channel between the root process ([priv]) and the worker: typed requests, states that only move forward.

Owns the request types, which request is legal in which state, their form on the socketpair, and both halves of the
channel. Does not own what [priv] does to answer a request (``privileged.py``) nor how the two processes start and end
(``daemon/supervisor.py``).

    INIT --read_config--> CONFIG --running--> RUNNING --quit--> QUIT

The worker handles what strangers send, so [priv] trusts it with nothing: a request that is malformed, of an unknown
kind or out of state is a ``Violation`` and ends both processes. A request that is legal but cannot be met is answered
with an error.

One message is one JSON object in one SOCK_SEQPACKET record; file descriptors travel beside it (SCM_RIGHTS).
Request ``{"id": 7, "do": "open_tun", "name": "mlvpn0", ...}``; answer ``{"id": 7, "answer": ...}`` or
``{"id": 7, "error": "ConfigError", "text": "..."}``. Several requests may be outstanding; answers come in any order.

The idea of a parent whose powers shrink with its state is MLVPN's (privsep.c), and before it OpenBSD's syslogd.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any, ClassVar, get_type_hints

from mlvpn.errors import ConfigError, Error, LinkError, SystemFailure

MESSAGE_BYTES = 64 * 1024
"""Largest message; the longest real one (a script call with many routes) is a few kilobytes."""
OUTSTANDING = 256
"""Requests [priv] works on at once; real use is one per link and one script."""


class State(IntEnum):
    """How far the tunnel's life has come; [priv] can do less in each later state."""

    INIT = 0
    CONFIG = 1
    RUNNING = 2
    QUIT = 3


class Violation(SystemFailure):
    """The worker broke the rules of the channel: it is no longer what we started."""


class ChannelClosed(SystemFailure):
    """The process at the other end of the channel is gone."""


@dataclass(frozen=True, slots=True)
class Request:
    """Base of all requests. ``allowed`` and ``enters`` are the state table; the rest of a request is what is asked."""

    allowed: ClassVar[frozenset[State]]
    enters: ClassVar[State | None] = None


def _states(*states: State) -> frozenset[State]:
    return frozenset(states)


@dataclass(frozen=True, slots=True)
class ReadConfig(Request):
    """Read the configuration file, named at start; the answer is that name and a descriptor with the content."""

    allowed = _states(State.INIT, State.CONFIG, State.RUNNING)
    enters = State.CONFIG


@dataclass(frozen=True, slots=True)
class SetScript(Request):
    """Fix the status script; only a file that nobody but its owner can read or change is taken."""

    allowed = _states(State.CONFIG)
    path: str


@dataclass(frozen=True, slots=True)
class OpenTun(Request):
    """Open or create the TUN or TAP device; the answer is a ``tun.TunInfo`` and the device's descriptor."""

    allowed = _states(State.CONFIG)
    name: str
    kind: str
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class ListenControl(Request):
    """Listen on the UNIX control socket, owner only; the answer carries the descriptor. Empty path: the usual one."""

    allowed = _states(State.CONFIG)
    path: str


@dataclass(frozen=True, slots=True)
class Running(Request):
    """Start-up is done: from now on no device, script or privileged port but ``ports``, those of the configuration."""

    allowed = _states(State.CONFIG)
    enters = State.RUNNING
    ports: list[int]


@dataclass(frozen=True, slots=True)
class OpenLinkSocket(Request):
    """Open a link's UDP socket; what the fields mean stands at ``udp.open_link_socket``."""

    allowed = _states(State.CONFIG, State.RUNNING)
    bind_host: str
    bind_port: int
    interface: str
    family: int


@dataclass(frozen=True, slots=True)
class Resolve(Request):
    """Resolve a peer's name; the answer is a list of ``[family, address]``, in the resolver's order of preference."""

    allowed = _states(State.CONFIG, State.RUNNING)
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class CompileFilters(Request):
    """Compile the [filters] of the configuration file; the answer carries a descriptor with the programs as JSON.

    It names no expression: libpcap never sees, as root, what the worker says.
    """

    allowed = _states(State.CONFIG, State.RUNNING)


@dataclass(frozen=True, slots=True)
class RunScript(Request):
    """Run the status script; the answer, its exit status, comes when it has ended. One at a time, in order."""

    allowed = _states(State.RUNNING, State.QUIT)
    args: list[str]
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class Quit(Request):
    """The tunnel goes down: only the script's last calls are left to do."""

    allowed = _states(State.CONFIG, State.RUNNING)
    enters = State.QUIT


REQUESTS: dict[str, type[Request]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in (
        ReadConfig,
        SetScript,
        OpenTun,
        ListenControl,
        Running,
        OpenLinkSocket,
        Resolve,
        CompileFilters,
        RunScript,
        Quit,
    )
}
_NAMES = {kind: name for name, kind in REQUESTS.items()}
_ERRORS: dict[str, type[Error]] = {kind.__name__: kind for kind in (ConfigError, LinkError, SystemFailure)}

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
"""Signals that [priv] only hands to the worker; blocked in both until each has its handlers."""
FIRST_UNPRIVILEGED_PORT = 1024
"""Lower ones are root's to open (ip(7), net.ipv4.ip_unprivileged_port_start)."""

Answer = tuple[Any, list[int]]
"""What a request brought: something JSON can say, and descriptors to hand over."""


def advance(state: State, request: Request) -> State:
    """Return the state after ``request``, or raise Violation when it is not legal in ``state``."""
    if state not in request.allowed:
        raise Violation(f"the worker asked for {_NAMES[type(request)]} in state {state.name}")
    return max(state, request.enters) if request.enters is not None else state


def pack_request(number: int, request: Request) -> bytes:
    """Write a request as a message."""
    return json.dumps({"id": number, "do": _NAMES[type(request)], **asdict(request)}).encode()


def unpack_request(message: bytes) -> tuple[int, Request]:
    """Read a request; anything but exactly one well-formed request is a Violation."""
    try:
        content = json.loads(message)
        number, kind = content.pop("id"), REQUESTS[content.pop("do")]
        hints = get_type_hints(kind)
        if type(number) is not int or content.keys() != {field.name for field in fields(kind)}:
            raise ValueError
        if not all(_conforms(value, hints[name]) for name, value in content.items()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Violation("the worker sent a malformed request") from error
    return number, kind(**content)


def _conforms(value: object, hint: object) -> bool:
    """Say whether ``value`` has exactly the type of a request's field (True is no int here, a NUL is in no string)."""
    if hint is str:
        return isinstance(value, str) and "\0" not in value
    if hint == list[str]:
        return isinstance(value, list) and all(_conforms(item, str) for item in value)
    if hint == list[int]:
        return isinstance(value, list) and all(type(item) is int for item in value)
    if hint == dict[str, str]:
        return isinstance(value, dict) and all(_conforms(item, str) for pair in value.items() for item in pair)
    return type(value) is hint


class PrivilegedEnd:
    """[priv]'s half: checks each request against the state, has it answered by ``handler``, sends the answer.

    ``violated`` is called once, with what is wrong; ``closed`` when the worker's end is gone.
    """

    def __init__(
        self,
        channel: socket.socket,
        handler: Callable[[Request], Awaitable[Answer]],
        violated: Callable[[Violation], None],
        closed: Callable[[], None],
    ) -> None:
        self.state = State.INIT
        self._channel = channel
        self._handler = handler
        self._violated = violated
        self._closed = closed
        self._tasks: set[asyncio.Task[None]] = set()
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._readable)

    def stop(self) -> None:
        """Read no more requests and give up those under way."""
        asyncio.get_running_loop().remove_reader(self._channel)
        for task in self._tasks:
            task.cancel()

    def _readable(self) -> None:
        message, _ = _receive(self._channel, descriptors=0)
        if not message:
            self.stop()
            return self._closed()
        try:
            number, request = unpack_request(message)
            self.state = advance(self.state, request)
            if len(self._tasks) >= OUTSTANDING:
                raise Violation("the worker asked for too much at once")
        except Violation as violation:
            self.stop()
            return self._violated(violation)
        task = asyncio.create_task(self._serve(number, request))
        self._tasks.add(task)
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # a defect of a handler must not vanish: raise it into the loop

    async def _serve(self, number: int, request: Request) -> None:
        descriptors: list[int] = []
        content: dict[str, Any]
        try:
            answer, descriptors = await self._handler(request)
            content = {"id": number, "answer": answer}
        except Error as error:
            kind = next(name for name, kind in _ERRORS.items() if isinstance(error, kind))
            content = {"id": number, "error": kind, "text": str(error)}
        try:
            socket.send_fds(self._channel, [json.dumps(content).encode()], descriptors)
        except OSError:
            pass  # the worker is gone, or reads nothing any more: whoever watches it notices
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


class WorkerEnd:
    """The worker's half: ``await end.ask(request)``; ``closed`` is called when [priv] is gone."""

    def __init__(self, channel: socket.socket, closed: Callable[[], None]) -> None:
        self._channel = channel
        self._closed = closed
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._count = 0
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._readable)

    async def ask(self, request: Request) -> Any:
        """Send a request and wait for its answer; an error answered is raised here."""
        answer, descriptors = await self._exchange(request)
        assert not descriptors, "this request brings a descriptor"
        return answer

    async def ask_descriptor(self, request: Request) -> tuple[Any, int]:
        """Like ``ask`` for a request that also brings one file descriptor, which the caller then owns."""
        answer, (descriptor,) = await self._exchange(request)
        return answer, descriptor

    async def _exchange(self, request: Request) -> Answer:
        number = self._count = self._count + 1
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._channel.send(pack_request(number, request))
            return await future
        except OSError as error:
            raise ChannelClosed(f"cannot reach the privileged process: {error.strerror}") from error
        finally:
            del self._waiting[number]

    def _readable(self) -> None:
        message, descriptors = _receive(self._channel, descriptors=1)
        if not message:
            return self._end()
        content = json.loads(message)
        future = self._waiting.get(content["id"])
        if future is None or future.done():  # who asked was cancelled meanwhile
            for descriptor in descriptors:
                os.close(descriptor)
        elif "error" in content:
            future.set_exception(_ERRORS[content["error"]](content["text"]))
        else:
            future.set_result((content["answer"], descriptors))

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ChannelClosed("the privileged process is gone"))
        self._closed()


def _receive(channel: socket.socket, descriptors: int) -> tuple[bytes, list[int]]:
    """Read one message with at most so many descriptors; an empty message means that the other end is gone."""
    try:
        message, received, flags, _ = socket.recv_fds(channel, MESSAGE_BYTES, descriptors)
    except ConnectionError:
        return b"", []
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        message = b"truncated"  # not JSON: the reader treats it as malformed
    return message, received
