"""How commands find a running daemon and ask it something, over its control socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from mlvpn.cli import checked_name
from mlvpn.errors import Error, NotRunningError, PermissionDeniedError
from mlvpn.system.privileges import RUN_DIRECTORY

ANSWER_S = 10.0
"""A daemon that has not answered by then is stuck. Deriving keys, the longest thing it does, takes about 0.2 s."""


def control_sockets(name: str | None) -> list[Path]:
    """Return the control socket of a tunnel given by name (or path, with a slash), or those of all tunnels."""
    if name is None:
        found = sorted(RUN_DIRECTORY.glob("*.sock"))
        if not found:
            raise NotRunningError(f"no tunnel is running: there is no control socket in {RUN_DIRECTORY}")
        return found
    return [Path(name) if "/" in name else RUN_DIRECTORY / f"{checked_name(name)}.sock"]


def ask(path: Path, command: str) -> dict[str, Any]:
    """Send one command and return the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_S)
        try:
            connection.connect(str(path))
            connection.sendall(f"v1 {command}\n".encode())
            line = connection.makefile("rb").readline()
        except PermissionError as error:
            raise PermissionDeniedError(f"{path}: only root may ask; try with sudo") from error
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError(f"no daemon answers on {path}; see: systemctl status mlvpn@{path.stem}") from error
        except TimeoutError as error:
            raise Error(f"the daemon behind {path} does not answer; look at its log, then restart it") from error
        except OSError as error:
            raise Error(f"{path}: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise NotRunningError(f"the daemon behind {path} hung up: it is ending, or serves too many at once")
    answer: dict[str, Any] = json.loads(line)
    return answer
