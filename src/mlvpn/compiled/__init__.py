"""The modules a packet passes, compiled from the same Python where that could be done.

mypyc makes C extensions of typed modules: what they do stays as it is, the interpreter's part of it goes. There is
nothing to keep equal by hand, and where nothing was built, or a source has changed since, the sources run.

Owns which modules these are, and the choice, made once when ``mlvpn`` is imported. Does not own the building (`build`).
``MLVPN_COMPILED`` is ``auto`` (the default: if they are of these sources), ``yes`` or ``no``; what is forced and
missing is an ImportError. ``MLVPN_KERNELS=python`` means no.

Source: https://mypyc.readthedocs.io
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from pathlib import Path
from types import ModuleType

MODULES = (
    *(
        f"mlvpn.core.{name}"
        for name in (
            *("packet", "gather", "uso", "ack_filter", "flow", "queue", "codel", "ecn"),
            *("sender", "scheduler", "equaliser", "pacer", "estimator", "jitter", "run", "recovery", "train_watch"),
            *("incoming", "sessions", "receiver", "feedback", "resequencer", "piece"),
            *("tunnel", "link", "link_watch", "mtu", "witness", "burst_io"),
        )
    ),
    *(
        "mlvpn.wire.header",
        "mlvpn.wire.frame",
        "mlvpn.wire.vnet",
        "mlvpn.crypto.replay",
        "mlvpn.burst.api",
        "mlvpn.burst.c",
    ),
    *(
        f"mlvpn.core.mlvpn1.{name}"
        for name in (
            *("tunnel", "link", "incoming", "resequencer"),
            *("outgoing", "balance", "flow", "window", "outbox"),
        )
    ),
    *("mlvpn.wire.mlvpn1", "mlvpn.wire.rejoin", "mlvpn.burst.secretbox", "mlvpn.burst.segments"),
    *("mlvpn.system.tun", "mlvpn.system.udp", "mlvpn.system.receive", "mlvpn.system.join"),
    *("mlvpn.daemon.loop", "mlvpn.daemon.bridge"),
)
"""In the order in which a packet meets them. What only runs once in a while, as the handshake does, is not worth the
compiler's time."""
KNOWN_TO_THEM = ("burst", "compiled", "config", "core", "crypto", "daemon", "errors.py", "system", "units.py", "wire")
"""Where the code is that compiled code knows: their own, and the types it expects of others."""
LIBRARY = "mlvpn__mypyc"
"""Where mypyc puts the code of all of them; the modules themselves are shells."""
SUFFIX = EXTENSION_SUFFIXES[0]
"""Names the interpreter's version and the machine."""
HERE = Path(__file__).parent
LIB = HERE / "lib"
MANIFEST = "manifest.json"


def source(module: str) -> Path:
    """Return the file a module is made of."""
    return HERE.parents[1].joinpath(*module.split(".")).with_suffix(".py")


def fingerprints() -> dict[str, str]:
    """Return what the sources are now, file by file."""
    package = HERE.parent
    parts = [package / name for name in KNOWN_TO_THEM]
    files = [file for part in parts for file in (sorted(part.rglob("*.py")) if part.is_dir() else [part])]
    return {str(file.relative_to(package)): source_hash(file.read_bytes()).hex() for file in files}


def unusable_because() -> str:
    """Return why what was built cannot be used, or nothing."""
    try:
        built = json.loads((LIB / MANIFEST).read_text())
        if built["suffix"] != SUFFIX:
            return "they are compiled for another Python"
        before, now = built["sources"], fingerprints()
        changed = sorted(file for file in before.keys() | now if before.get(file) != now.get(file))
        missing = [module for module in MODULES if not _compiled_path(module).exists()]
    except FileNotFoundError:
        return "they are not compiled"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"what was compiled cannot be read ({error})"
    if changed:
        return f"{changed[0]} has changed since they were compiled"
    return f"{missing[0]} is not among what was compiled" if missing else ""


def _compiled_path(module: str) -> Path:
    return LIB.joinpath(*module.split(".")[:-1], module.rpartition(".")[2] + SUFFIX)


class _Finder(MetaPathFinder):
    """Finds the compiled ones before their sources are found."""

    def __init__(self) -> None:
        self._paths = {module: _compiled_path(module) for module in (*MODULES, LIBRARY)}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        path = self._paths.get(fullname)
        return spec_from_file_location(fullname, path) if path else None


def _choose() -> str:
    """Have the compiled modules imported if they may and can be; return why not, or nothing."""
    wanted = os.environ.get("MLVPN_COMPILED", "auto")
    if wanted not in ("auto", "yes", "no"):
        raise ImportError(f"MLVPN_COMPILED={wanted!r}: say auto, yes or no")
    if wanted == "no" or (wanted == "auto" and os.environ.get("MLVPN_KERNELS") == "python"):
        return "the environment says so"
    reason = unusable_because() or _not_loading_because()
    if reason and wanted == "yes":
        cure = "compile them with `MLVPN_COMPILED=auto python -m mlvpn.compiled.build`"
        raise ImportError(f"MLVPN_COMPILED=yes, but {reason}; {cure}")
    return reason


def _not_loading_because() -> str:
    """Have the compiled modules found from now on if their code loads; return why it does not, or nothing."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        import_module(LIBRARY)
    except ImportError as error:
        sys.meta_path.remove(finder)
        return f"what was compiled does not load ({error})"
    return ""


INTERPRETED_BECAUSE = _choose()
"""Empty where the modules are compiled."""
