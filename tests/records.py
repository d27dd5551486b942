"""Records that do not compare by themselves, as plain values: ``assert values(found) == values(expected)``.

What passes the core by the burst has no ``__eq__``, which nothing but tests would call.
"""

from __future__ import annotations

from mlvpn.burst import Opened
from mlvpn.core.burst_io import ReceivedTrain, Train

RECORDS = (Opened, ReceivedTrain, Train)


def values(found: object) -> object:
    """Return records as dictionaries, also those in lists and tuples; anything else as it is."""
    if isinstance(found, list | tuple):
        return [values(one) for one in found]
    if isinstance(found, RECORDS):
        named = {name: getattr(found, name) for name in dir(found) if not name.startswith("_")}
        return {name: value for name, value in named.items() if not callable(value)}
    return found
