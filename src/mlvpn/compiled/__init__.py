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
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from pathlib import Path
from types import ModuleType

MODULES = (
    *(
        f"mlvpn.core.{name}"
        for name in (
            *("packet", "gather", "uso", "queue", "ecn"),
            *("sender", "scheduler", "equaliser", "pacer", "estimator", "jitter", "run", "recovery", "train_watch"),
            *("sessions", "receiver", "feedback", "resequencer", "piece"),
            *("tunnel", "link", "link_watch", "mtu", "witness", "burst_io"),
        )
    ),
    *("mlvpn.wire.header", "mlvpn.wire.frame", "mlvpn.wire.vnet", "mlvpn.crypto.replay", "mlvpn.burst.c"),
    *(
        f"mlvpn.core.mlvpn1.{name}"
        for name in (
            *("tunnel", "link", "incoming", "resequencer"),
            *("outgoing", "balance", "flow", "window", "outbox"),
        )
    ),
    *("mlvpn.wire.mlvpn1", "mlvpn.wire.rejoin", "mlvpn.burst.secretbox", "mlvpn.burst.segments"),
    *("mlvpn.system.tun", "mlvpn.system.udp", "mlvpn.system.receive", "mlvpn.system.join", "mlvpn.daemon.bridge"),
)
"""In the order in which a packet meets them. What only runs once in a while is not worth the compiler's time, and what
strangers may talk to before they are authenticated (the handshake) stays interpreted."""
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
    """Return what the sources are now, module by module."""
    return {module: source_hash(source(module).read_bytes()).hex() for module in MODULES}


def unusable_because(lib: Path = LIB) -> str:
    """Return why what was built cannot be used, or nothing."""
    try:
        built = json.loads((lib / MANIFEST).read_text())
    except FileNotFoundError:
        return "they are not compiled"
    if built["suffix"] != SUFFIX:
        return "they are compiled for another Python"
    now = fingerprints()
    changed = sorted(
        module for module in now.keys() | built["sources"] if now.get(module) != built["sources"].get(module)
    )
    return f"{changed[0]} has changed since they were compiled" if changed else ""


class _Finder(MetaPathFinder):
    """Finds the compiled ones before their sources are found."""

    def __init__(self) -> None:
        self._paths = {module: LIB.joinpath(*module.split(".")) for module in (*MODULES, LIBRARY)}

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        path = self._paths.get(fullname)
        return spec_from_file_location(fullname, f"{path}{SUFFIX}") if path else None


def _choose() -> str:
    """Have the compiled modules imported if they may and can be; return why not, or nothing."""
    wanted = os.environ.get("MLVPN_COMPILED", "auto")
    if wanted not in ("auto", "yes", "no"):
        raise ImportError(f"MLVPN_COMPILED={wanted!r}: say auto, yes or no")
    if wanted == "no" or (wanted == "auto" and os.environ.get("MLVPN_KERNELS") == "python"):
        return "the environment says so"
    reason = unusable_because()
    if reason and wanted == "yes":
        cure = "compile them with `MLVPN_COMPILED=auto python -m mlvpn.compiled.build`"
        raise ImportError(f"MLVPN_COMPILED=yes, but {reason}; {cure}")
    if not reason:
        sys.meta_path.insert(0, _Finder())
    return reason


INTERPRETED_BECAUSE = _choose()
"""Empty where the modules are compiled."""
