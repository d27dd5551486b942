"""Status by HTTP, for programs that watch: GET only, one answer a connection, nothing that lasts.

    /status       MLVPN 2.x's own JSON        /v1/status    our versioned snapshot
    /metrics      MLVPN 2.x's own lines       /v1/metrics   Prometheus exposition

Owns routes, limits and headers. Does not own the texts (`legacy`, `exposition`) nor where snapshots come from
(`snapshots`). No answer allows another origin to read it. Everything a client can make wait or grow is bounded:
connections at once, the time of each, its request line and headers; a body is never read.

Uses aiohttp's low-level server: four fixed paths need no router, and its connections can be counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mlvpn.monitor import exposition, legacy
from mlvpn.monitor.snapshots import NoAnswer

CONNECTIONS = 32
CONNECTION_S = 10.0
"""A connection that is not over by then (a client that sends or reads too slowly) is cut."""
REQUEST_BYTES = 16 << 10
"""All that is taken from a connection; a scraper's request is below 1 KB."""
LINE_BYTES = 2048
"""Of a request line, and of one header."""
BACKLOG = 16
JSON_TYPE = "application/json"
PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of lines in the form of Prometheus: what scrapers of any version take."""
_HEADERS = {"Server": "mlvpn", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

_log = logging.getLogger("mlvpn.control")

Document = Mapping[str, Any]
Latest = Callable[[], Awaitable[Document]]
"""Returns the present snapshot, or raises NoAnswer."""


def _json(document: Document) -> str:
    return json.dumps(document) + "\n"


PATHS: dict[str, tuple[str, Callable[[Document], str | bytes]]] = {
    "/status": (JSON_TYPE, lambda document: legacy.status(document, time.time())),
    "/metrics": (PLAIN_TYPE, lambda document: legacy.metrics(document, time.time())),
    "/v1/status": (JSON_TYPE, _json),
    "/v1/metrics": (exposition.CONTENT_TYPE, exposition.metrics),
}
"""Path -> content type, and what makes the body of a snapshot."""


async def serve(listener: socket.socket, latest: Latest) -> web.ServerRunner:
    """Answer on a listening socket until the runner's ``cleanup()``."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await answer(request, latest)

    runner = web.ServerRunner(_Server(handle))
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    return runner


async def answer(request: web.BaseRequest, latest: Latest) -> web.Response:
    """Answer one request."""
    if request.method not in ("GET", "HEAD"):
        response = _error(405, "only GET and HEAD are understood here")
        response.headers["Allow"] = "GET, HEAD"
        return response
    if request.path not in PATHS:
        return _error(404, f"unknown path; there are: {', '.join(PATHS)}")
    content_type, make_body = PATHS[request.path]
    try:
        body = make_body(await latest())
    except NoAnswer as error:
        return _error(503, str(error))
    return _response(200, content_type, body)


def _error(status: int, text: str) -> web.Response:
    return _response(status, JSON_TYPE, _json({"error": text}))


def _response(status: int, content_type: str, body: str | bytes) -> web.Response:
    content = body.encode() if isinstance(body, str) else body
    response = web.Response(status=status, body=content, headers={**_HEADERS, "Content-Type": content_type})
    response.force_close()
    return response


class _Connection(RequestHandler):
    """Bounds what a client may send; answers what is no HTTP as every other error, without a traceback in the log."""

    received_bytes = 0

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes <= REQUEST_BYTES:
            super().data_received(data)
        elif self.transport is not None:
            self.transport.close()  # what has been answered still goes out

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status < 500:
            _log.debug("refused what is no HTTP request")
            return _error(status, "this is no request that is understood here")
        _log.error("a defect of mlvpn: no answer to a request", exc_info=exc)
        return _error(status, "a defect of mlvpn; see its log")


class _Server(web.Server):
    """Cuts a connection that comes on top of CONNECTIONS, or lasts."""

    def __init__(self, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handle)
        self._deadlines: dict[RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            logger=_log,
            access_log=None,  # type: ignore[arg-type]  # as documented: no log of requests
            max_line_size=LINE_BYTES,
            max_field_size=LINE_BYTES,
            lingering_time=0,
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._deadlines) >= CONNECTIONS:
            transport.abort()
            return
        self._deadlines[handler] = asyncio.get_running_loop().call_later(CONNECTION_S, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()
        super().connection_lost(handler, exc)
