"""The network interfaces as netlink last described them, and why a link could not use one now."""

from __future__ import annotations

from mlvpn.system.netlink import AddressGone, AddressNew, LinkState, NetlinkEvent


class Interfaces:
    """Follows netlink's events."""

    def __init__(self) -> None:
        self._states: dict[int, LinkState] = {}
        self._addresses: dict[str, int] = {}
        """Address -> index of the interface that has it."""

    def apply(self, event: NetlinkEvent) -> None:
        """Take in what changed."""
        match event:
            case LinkState():
                self._states[event.ifindex] = event
            case AddressNew():
                self._addresses[event.address] = event.ifindex
            case AddressGone():
                if self._addresses.get(event.address) == event.ifindex:
                    del self._addresses[event.address]

    def trouble(self, name: str | None, address: str | None) -> str | None:
        """Say why nothing can be sent from this interface, or this own address, or None when nothing speaks against it.

        An address that is not listed may be usable all the same (all of 127.0.0.0/8 is): binding to it will tell.
        """
        if name:
            state = next((state for state in self._states.values() if state.name == name), None)
            if state is None:
                return f"interface {name} is missing"
        else:
            state = self._states.get(self._addresses.get(address or "", -1))
        if state is None or (state.up and state.carrier):
            return None
        return f"interface {state.name} has no carrier" if state.up else f"interface {state.name} is down or gone"
