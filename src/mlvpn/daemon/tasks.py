"""Tasks whose failure is a defect: it must end the worker at once, not vanish with a task nobody awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from mlvpn.system.privsep import ChannelClosed


def spawn(body: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task; what it raises goes to the loop's exception handler. The caller keeps the task."""
    task = asyncio.create_task(body)
    task.add_done_callback(_check)
    return task


def _check(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and not isinstance(task.exception(), ChannelClosed):  # who closes it says so already
        task.result()
