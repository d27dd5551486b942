"""docs/configuration.md: a preface written by hand and the table of keys.

    python -m mlvpn.config.document > docs/configuration.md
    python -m mlvpn.config.document --check        # exit 1 when the page is not what this would write

Owns the page's words around the table; what is said of a key is in schema.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlvpn.config import schema
from mlvpn.config.schema import Key

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"

_PREFACE = """\
<!-- Written by: python -m mlvpn.config.document. Do not edit; edit src/mlvpn/config/ and write it anew. -->
# Configuration

One file describes one end of one tunnel. It is MLVPN's own `mlvpn.conf`: a file written for MLVPN 2.x works here, and
what is new here is marked below. `mlvpn check FILE` says everything that is wrong with a file, with line and column and
the cure; `mlvpn check --mlvpn FILE` also says which lines MLVPN 2.x would read otherwise.

The file holds the secret of the tunnel: it must belong to root and nobody else may have any right to it
(`chmod 600 FILE`), or the daemon does not start.

## Two files to begin with

The client, with a DSL line of its own and a mobile modem that is only used when the line is down:

```ini
[general]
mode = client
password = "a long sentence that only the two ends know"
interface_name = mlvpn0
ip4 = 10.42.42.2/24
ip4_gateway = 10.42.42.1
statuscommand = /etc/mlvpn/updown.sh
control_unix_path = /run/mlvpn/home.sock

[dsl]
bindhost = 192.168.1.2          # the address on this line
remotehost = vpn.example.net
remoteport = 5080

[mobile]
bindinterface = wwan0           # its address changes, its name does not
remotehost = vpn.example.net
remoteport = 5081
fallback_only = 1
```

The server:

```ini
[general]
mode = server
password = "a long sentence that only the two ends know"
interface_name = mlvpn0
ip4 = 10.42.42.1/24
ip4_gateway = 10.42.42.2
statuscommand = /etc/mlvpn/updown.sh
control_unix_path = /run/mlvpn/home.sock

[dsl]
bindport = 5080

[mobile]
bindport = 5081
fallback_only = 1
```

With key pairs in place of the password, each end has its own secret. Make one at each end with `mlvpn genkey`, and
give the other end what `mlvpn pubkey` makes of it:

```ini
[general]
mode = server
private_key = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
peer_key = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=

[dsl]
bindport = 5080
```

## Syntax

- `[name]` begins a section, `key = value` sets a key, `#` begins a comment. The text is UTF-8.
- A value may stand in double quotes. Then it is taken exactly as it is, with its blanks and with `#`; there are no
  escapes, so it cannot hold a double quote. Without quotes, blanks around it are dropped.
- `[general]` is the tunnel, a section whose name begins with `filters` holds filters, and **every other section is a
  link** of that name. Their order is free. A name is made of letters, digits and `. _ : + -`.
- An empty value is the same as none. An unknown key is an error. Of a repeated key the first counts, with a warning.
- Quantities may have a unit: durations `ns us ms s min h d`; rates in bits `kbit Mbit Gbit` (also `Mbit/s`, `Mbps`) or
  bytes `B/s kB/s MB/s GB/s KiB/s MiB/s GiB/s`. A number without a unit means what it means in MLVPN; the table says
  what. Note that `bandwidth_upload = 2500000` is bytes per second: 20 Mbit/s.
- The file may have 1 MiB, 255 links and 255 filters.

## Filters

A line `LINK = EXPRESSION` sends the packets that match the expression over that link, past all balancing. Expressions
are those of tcpdump, see pcap-filter(7). They are tried in order; the first one that matches **and** whose link is up
decides; a packet that none decides for is balanced as usual.

```ini
[filters]
dsl = udp port 5060
dsl = ip[9] == 6 and tcp port 22
```

## Changing a running tunnel

After a change, `SIGHUP` makes the daemon read the file again. When it has an error the old configuration stays and the
log says why. Otherwise only the difference is applied: links are added and removed, and the last column of the tables
says what it takes for a key. A key that needs a restart is named in the log and keeps its old value until then.
"""

_GENERAL_HEADING = "## Keys of [general]"
_LINK_HEADING = "## Keys of a link"
_COLUMNS = "| key | value | default | meaning | a change counts |\n|---|---|---|---|---|"


def page() -> str:
    """Return the whole page."""
    return "\n".join(
        [_PREFACE, *_section(_GENERAL_HEADING, schema.GENERAL), "", *_section(_LINK_HEADING, schema.LINK), ""]
    )


def _section(heading: str, section: str) -> list[str]:
    return [heading, "", _COLUMNS, *(_row(key) for key in schema.KEYS if key.section == section)]


def _row(key: Key) -> str:
    cells = (f"`{key.name}`", _value(key), _default(key), _meaning(key), key.reload.value)
    return f"| {' | '.join(cells)} |"


def _value(key: Key) -> str:
    bare = f"; a number alone is {key.kind.bare_unit}" if key.kind.bare_unit else ""
    limits = {
        (True, True): f"; {key.minimum} to {key.maximum}",
        (True, False): f"; {key.minimum} at least",
        (False, True): f"; {key.maximum} at most",
        (False, False): "",
    }
    return key.kind.form + bare + limits[bool(key.minimum), bool(key.maximum)]


def _default(key: Key) -> str:
    if key.inherited:
        return "that of [general]"
    return f"`{key.default}`" if key.default is not None else ""


def _meaning(key: Key) -> str:
    parts = [key.help.strip()]
    if key.alias:
        parts.append(f"`{key.alias}` is understood too.")
    if key.protocol:
        parts.append(f"Only with `protocol = {key.protocol}`.")
    if not key.mlvpn2:
        parts.append("Not in MLVPN 2.x.")
    return " ".join(parts)


def main(arguments: list[str]) -> int:
    """Write the page to stdout, or with --check compare it with the file."""
    if arguments != ["--check"]:
        sys.stdout.write(page())
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    sys.stderr.write(f"{PAGE} is stale; run: python -m mlvpn.config.document > docs/configuration.md\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
