"""The configuration file: read, checked, compared, documented.

grammar.py splits the text, schema.py is the one table of keys, values.py and rules.py say what is valid alone and
together, model.py is what the rest of the program sees, load.py is the way from a path to a ``Config``,
difference.py what a reload changes, mlvpn2.py how MLVPN 2.x would have read the same file.
"""

from mlvpn.config.difference import Difference, diff, keep_start_only
from mlvpn.config.file import check_permissions, decode, read_file
from mlvpn.config.load import load, parse
from mlvpn.config.model import Config, Filter, General, LinkConfig
from mlvpn.config.problem import Location
from mlvpn.config.secret import Secret

__all__ = [
    "Config",
    "Difference",
    "Filter",
    "General",
    "LinkConfig",
    "Location",
    "Secret",
    "check_permissions",
    "decode",
    "diff",
    "keep_start_only",
    "load",
    "parse",
    "read_file",
]
