"""Write what in docs/ comes from the code: ``python tools/pages.py``, or ``--check`` that it is what this would write.

* docs/wire.md is made of the docstrings of the modules that hold the formats.
* In the other pages, what stands between ``<!-- constants: MODULE -->`` or ``<!-- counters: CLASS -->`` and
  ``<!-- end -->`` is a table of that module's constants, or of those counters, with the explanations that stand there.

docs/configuration.md has a generator of its own, `mlvpn.config.document`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mlvpn import compiled
from mlvpn.core import counters
from mlvpn.units import NS_PER_MS, NS_PER_S

DOCS = Path(__file__).parents[1] / "docs"
WIRE_PAGE = DOCS / "wire.md"

_WIRE_MODULES = {
    "The handshake: types 1 to 3": "mlvpn.wire.handshake",
    "The header of sealed datagrams: types 4 and 5": "mlvpn.wire.header",
    "The body: frames": "mlvpn.wire.frame",
    "MLVPN 2.x": "mlvpn.wire.mlvpn1",
}
_WIRE_PREFACE = """\
<!-- Written by: make docs, from the docstrings of src/mlvpn/wire/. Do not edit; edit those and write it anew. -->
# On the wire

All links carry UDP datagrams. The first byte of a datagram of the native protocol is its type: 1 to 3 are the handshake
(Noise IKpsk2; what it protects is the matter of [security.md](security.md)), 4 and 5 carry everything else, sealed. The
formats below are what the modules of `src/mlvpn/wire/` say of themselves; the tests of each hold datagrams as hex.

A full packet costs 28 bytes of IPv4 and UDP (48 with IPv6), 16 of header, 16 of authentication tag and 7 of frame: over
a path MTU of 1500 an inner packet of 1432 bytes passes whole. A slice has 8 bytes of frame and the inner headers.
"""
_BLOCK = re.compile(r"(<!-- (constants|counters): (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def wire_page() -> str:
    """Return docs/wire.md."""
    sections = [f"## {title}\n\n{_module_text(name)}\n" for title, name in _WIRE_MODULES.items()]
    return "\n".join([_WIRE_PREFACE, *sections])


def _module_text(name: str) -> str:
    text = ast.get_docstring(source(name)) or ""
    return f"(`src/{name.replace('.', '/')}.py`)\n\n{text.replace('``', '`')}"


def fill_blocks(text: str) -> str:
    """Return a page with its tables written anew."""
    writers = {"constants": constants_table, "counters": counters_table}
    return _BLOCK.sub(lambda found: found[1] + writers[found[2]](found[3]) + found[4], text)


def source(module: str) -> ast.Module:
    """Return what a module says, compiled or not."""
    return ast.parse(compiled.source(module).read_text(encoding="utf-8"))


def constants_table(module: str) -> str:
    """Return the table of the constants of a module of ``mlvpn.core``."""
    loaded = importlib.import_module(f"mlvpn.core.{module}")
    rows = [f"| `{name}` | {show(name, getattr(loaded, name))} | {why} |" for name, why in _constants(module)]
    return "\n".join([f"| `core/{module}.py` | value | why |", "|---|---|---|", *rows, ""])


def _constants(module: str) -> Iterator[tuple[str, str]]:
    """Yield the public constants of a module's source that are numbers, with the string that follows each."""
    body = source(f"mlvpn.core.{module}").body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
        name = ast.unparse(target)
        if name.isupper() and not name.startswith("_") and isinstance(statement.value, ast.Constant | ast.BinOp):
            yield name, " ".join(_string(after).split()).replace("``", "`").replace("|", "\\|")


def _string(statement: ast.stmt | None) -> str:
    """Return what a statement that is nothing but a string says."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value)
    return ""


def show(name: str, value: float) -> str:
    """Return a constant as a person reads it; its unit is in its name."""
    if name.endswith("_NS"):
        return f"{value / NS_PER_S:g} s" if value >= NS_PER_S else f"{value / NS_PER_MS:g} ms"
    if name.endswith("_BPS"):
        return f"{value / 1e6:g} Mbit/s"
    if name.endswith("_BYTES"):
        return f"{value >> 20} MiB" if value >= 1 << 20 else f"{value} bytes"  # type: ignore[operator]
    return f"{value:g}" if isinstance(value, float) else str(value)


def counters_table(name: str) -> str:
    """Return the table of a class of counters."""
    rows = [
        f"| `{field.name}` | {field.metadata['help']} | {'yes' if field.metadata['drop'] else ''} |"
        for field in dataclasses.fields(getattr(counters, name))
    ]
    return "\n".join(["| counter | counts | a drop |", "|---|---|---|", *rows, ""])


def pages() -> dict[Path, str]:
    """Return every page that holds something generated, as it should be."""
    wanted = {WIRE_PAGE: wire_page()}
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if path != WIRE_PAGE and _BLOCK.search(text):
            wanted[path] = fill_blocks(text)
    return wanted


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are stale."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is stale; run: make docs", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
