"""The channel: what is legal when, what a broken worker can do to [priv] (nothing), and how answers find who asked."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlvpn.errors import LinkError
from mlvpn.system import privsep
from mlvpn.system.privsep import Answer, ChannelClosed, PrivilegedEnd, Request, State, Violation, WorkerEnd

EXAMPLES: dict[str, Request] = {
    "read_config": privsep.ReadConfig(),
    "set_script": privsep.SetScript("/etc/mlvpn/script"),
    "open_tun": privsep.OpenTun("mlvpn0", "tun", 1432),
    "listen_control": privsep.ListenControl(""),
    "running": privsep.Running([500]),
    "open_link_socket": privsep.OpenLinkSocket("", 0, "", 2),
    "resolve": privsep.Resolve("example.org", 5080),
    "compile_filters": privsep.CompileFilters(),
    "run_script": privsep.RunScript(["mlvpn0", "tuntap_up"], {"MTU": "1432"}),
    "quit": privsep.Quit(),
}

ALLOWED = {
    State.INIT: {"read_config"},
    State.CONFIG: {
        *(
            "read_config",
            "set_script",
            "open_tun",
            "listen_control",
            "open_link_socket",
            "resolve",
            "compile_filters",
            "running",
            "quit",
        ),
    },
    State.RUNNING: {"read_config", "open_link_socket", "resolve", "compile_filters", "run_script", "quit"},
    State.QUIT: {"run_script"},
}


def test_every_request_has_an_example() -> None:
    assert EXAMPLES.keys() == privsep.REQUESTS.keys()


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_request_is_legal_in_its_states_only_and_states_never_go_back(state: State, name: str) -> None:
    if name in ALLOWED[state]:
        assert privsep.advance(state, EXAMPLES[name]) >= state
    else:
        with pytest.raises(Violation, match=f"{name} in state {state.name}"):
            privsep.advance(state, EXAMPLES[name])


def test_the_life_of_a_tunnel_goes_through_the_states() -> None:
    state, seen = State.INIT, []
    for name in ("read_config", "open_tun", "running", "read_config", "quit"):
        state = privsep.advance(state, EXAMPLES[name])
        seen.append(state)
    assert seen == [State.CONFIG, State.CONFIG, State.RUNNING, State.RUNNING, State.QUIT]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_request_survives_the_channel(name: str) -> None:
    assert privsep.unpack_request(privsep.pack_request(7, EXAMPLES[name])) == (7, EXAMPLES[name])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b'{"id": 1, "do": "halt"}',
        b'{"id": 1, "do": ["quit"]}',
        b'{"id": true, "do": "quit"}',
        b'{"id": 1, "do": "quit", "more": 1}',
        b'{"id": 1, "do": "resolve", "host": "a"}',
        b'{"id": 1, "do": "resolve", "host": 5, "port": 1}',
        b'{"id": 1, "do": "resolve", "host": "a", "port": true}',
        b'{"id": 1, "do": "resolve", "host": "a\\u0000b", "port": 1}',
        b'{"id": 1, "do": "running", "ports": ["1"]}',
        b'{"id": 1, "do": "run_script", "args": "x", "env": {}}',
        b'{"id": 1, "do": "run_script", "args": [], "env": {"A": 1}}',
        b"[" * 50_000,
    ],
)
def test_what_is_malformed_is_a_violation(message: bytes) -> None:
    with pytest.raises(Violation, match="malformed"):
        privsep.unpack_request(message)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(), st.text() | st.integers()).map(lambda d: json.dumps(d).encode())
)
def test_no_message_does_more_than_violate(message: bytes) -> None:
    with pytest.raises(Violation):
        privsep.unpack_request(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_fields_of_any_type_give_a_well_typed_request_or_a_violation(name: str, data: st.DataObject) -> None:
    kind = privsep.REQUESTS[name]
    content = {field.name: data.draw(json_values) for field in fields(kind)}
    try:
        _, request = privsep.unpack_request(json.dumps({"id": 1, "do": name, **content}).encode())
    except Violation:
        return
    assert privsep.unpack_request(privsep.pack_request(1, request))[1] == request


class Ends:
    """Both halves on one socketpair, and what each was told."""

    def __init__(self, handler: Callable[[Request], Awaitable[Answer]]) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.violations: asyncio.Queue[Violation] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.orphaned = asyncio.Event()
        self.privileged = PrivilegedEnd(self.ours, handler, self.violations.put_nowait, self.closed.set)
        self.worker = WorkerEnd(self.theirs, self.orphaned.set)

    async def __aenter__(self) -> Ends:
        return self

    async def __aexit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for end in (self.ours, self.theirs):
            if end.fileno() >= 0:
                loop.remove_reader(end)
                end.close()


async def no_answer(request: Request) -> Answer:
    return None, []


def run(body: Awaitable[None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(5):
            await body

    asyncio.run(limited())


def test_answers_find_who_asked_in_whatever_order_they_come() -> None:
    async def body() -> None:
        release = asyncio.Event()

        async def handler(request: Request) -> Answer:
            if isinstance(request, privsep.Resolve):
                if request.host == "slow":
                    await release.wait()
                return [request.host], []
            return None, []

        async with Ends(handler) as ends:
            await ends.worker.ask(privsep.ReadConfig())
            slow = asyncio.create_task(ends.worker.ask(privsep.Resolve("slow", 1)))
            assert await ends.worker.ask(privsep.Resolve("fast", 1)) == ["fast"]
            release.set()
            assert await slow == ["slow"]

    run(body())


def test_a_descriptor_crosses_and_its_sender_keeps_none() -> None:
    async def body() -> None:
        readable, writable = os.pipe()

        async def handler(request: Request) -> Answer:
            return "here", [readable]

        async with Ends(handler) as ends:
            answer, descriptor = await ends.worker.ask_descriptor(privsep.ReadConfig())
            os.write(writable, b"x")
            os.close(writable)
            assert (answer, os.read(descriptor, 2)) == ("here", b"x")
            os.close(descriptor)
            with pytest.raises(OSError):
                os.fstat(readable)

    run(body())


def test_an_error_is_raised_where_it_was_asked() -> None:
    async def body() -> None:
        async def handler(request: Request) -> Answer:
            raise LinkError("no such port")

        async with Ends(handler) as ends:
            with pytest.raises(LinkError, match="no such port"):
                await ends.worker.ask(privsep.ReadConfig())
            assert ends.violations.empty()

    run(body())


@pytest.mark.parametrize(
    "message", [b"rubbish", privsep.pack_request(1, privsep.OpenTun("x", "tun", 1)), b"x" * 70_000]
)
def test_a_broken_rule_is_reported_once_and_nothing_is_served_afterwards(message: bytes) -> None:
    async def body() -> None:
        served = []

        async def handler(request: Request) -> Answer:
            served.append(request)
            return None, []

        async with Ends(handler) as ends:
            ends.theirs.send(message)
            await ends.violations.get()
            ends.theirs.send(privsep.pack_request(2, privsep.ReadConfig()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert served == [] and ends.violations.empty()

    run(body())


def test_descriptors_from_the_worker_are_refused() -> None:
    async def body() -> None:
        async with Ends(no_answer) as ends:
            before = len(list(Path("/proc/self/fd").iterdir()))
            socket.send_fds(ends.theirs, [privsep.pack_request(1, privsep.ReadConfig())], [0])
            await ends.violations.get()
            assert len(list(Path("/proc/self/fd").iterdir())) == before

    run(body())


def test_too_many_requests_at_once_are_a_violation() -> None:
    async def body() -> None:
        async def never(request: Request) -> Answer:
            await asyncio.Event().wait()
            return None, []

        async with Ends(never) as ends:
            for number in range(privsep.OUTSTANDING + 1):
                ends.theirs.setblocking(True)
                ends.theirs.send(privsep.pack_request(number, privsep.ReadConfig()))
                await asyncio.sleep(0)
            assert "too much" in str(await ends.violations.get())

    run(body())


def test_when_the_parent_is_gone_every_question_ends() -> None:
    async def body() -> None:
        async def never(request: Request) -> Answer:
            await asyncio.Event().wait()
            return None, []

        async with Ends(never) as ends:
            question = asyncio.create_task(ends.worker.ask(privsep.ReadConfig()))
            await asyncio.sleep(0.01)
            ends.privileged.stop()
            ends.ours.close()
            with pytest.raises(ChannelClosed):
                await question
            await ends.orphaned.wait()
            with pytest.raises(ChannelClosed):
                await ends.worker.ask(privsep.ReadConfig())

    run(body())


def test_when_the_worker_is_gone_the_parent_hears_of_it() -> None:
    async def body() -> None:
        async with Ends(no_answer) as ends:
            asyncio.get_running_loop().remove_reader(ends.theirs)
            ends.theirs.close()
            await ends.closed.wait()

    run(body())
