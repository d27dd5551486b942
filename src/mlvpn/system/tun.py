"""The TUN or TAP device: opening it with every offload the kernel has, reading and writing it in bursts.

Owns the device's descriptor, its negotiation and its fallbacks. Does not own the addresses and routes on it (the status
script does) nor what is in a frame (``wire.vnet``).

Two halves. ``open_tun`` runs in [priv], which may create devices. ``Tun`` runs in the worker on the descriptor handed
over; it needs no privilege. Above this file every device looks alike: a *TUN frame* is a 10-byte virtio_net_hdr and
the packet. Where the device is plain, ``read_burst`` puts ten zero bytes in front and ``write_burst`` cuts
super-packets and finishes checksums in software.

Three levels, tried from the top: vnet header with TCP and UDP segmentation (Linux 6.2), with TCP segmentation, plain.
Some kernels of 2024 accept the negotiation and then refuse super-packets with EINVAL (e269d79c7d35, mended by
89add40066f9), older ones refuse UDP super-packets of more than 64 packets: such a frame is written again as single
packets, and after ``REFUSALS`` of one type all of that type are.

Always read until empty: a full TUN queue drops silently, so whatever must wait waits in the tunnel's own queue.
``MLVPN_NO_OFFLOAD=1`` in the environment of [priv] forces a plain device.

Sources: Linux drivers/net/tun.c, include/uapi/linux/if_tun.h; the numbers are those of x86, Arm and RISC-V.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from mlvpn.core.burst_io import Delivery
from mlvpn.core.uso import LEAST_PACKETS, join_writes
from mlvpn.errors import PeerError, SystemFailure
from mlvpn.wire.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP, HEADER_BYTES, NO_OFFLOAD, VnetHeader, segment

Kind = Literal["tun", "tap"]

TX_QUEUE_PACKETS: Final = 1000
"""Queue between the kernel and our reads; Linux' default of 500 overflows while a burst is being sealed."""
FRAME_BYTES: Final = HEADER_BYTES + 18 + 65535
"""The largest TUN frame: vnet header, Ethernet with one VLAN tag, IP."""
REFUSALS: Final = 3
"""Super-packets of one type the kernel may refuse before it is offered no more of them."""

_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_SIOCSIFMTU: Final = 0x8922
_SIOCSIFTXQLEN: Final = 0x8943
_IFF: Final = {"tun": 0x0001, "tap": 0x0002}
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_OFFLOADS: Final = {"csum": 0x01, "tso4": 0x02, "tso6": 0x04, "uso4": 0x20, "uso6": 0x40}
"""TUN_F_*; both USO go together, and none of them counts without csum."""
_LEVELS: Final = (("csum", "tso4", "tso6", "uso4", "uso6"), ("csum", "tso4", "tso6"))
_INTERFACE_NAME_BYTES: Final = 15
_SUPER_PACKETS: Final = {GSO_TCPV4: "TCP over IPv4", GSO_TCPV6: "TCP over IPv6", GSO_UDP: "UDP"}

_OPEN_CURES: Final = {
    errno.ENOENT: "load the kernel module: modprobe tun",
    errno.ENODEV: "load the kernel module: modprobe tun",
    errno.EPERM: "start as root, or with CAP_NET_ADMIN",
    errno.EACCES: "start as root, or with CAP_NET_ADMIN",
    errno.EBUSY: "another process uses it: stop that one or choose another name",
    errno.EINVAL: "an interface of that name and another kind exists, or the name is not valid: choose another name",
}


@dataclass(frozen=True, slots=True)
class TunInfo:
    """What ``open_tun`` got; plain values, so that it can cross from [priv] to the worker as JSON."""

    name: str
    kind: Kind
    mtu_bytes: int
    offloads: Sequence[str]
    """Those negotiated, in the kernel's words; empty for a plain device."""
    plain_because: str
    """Why there are none; empty where there are."""


@dataclass(slots=True)
class TunCounters:
    """What passed the device and what did not; a super-packet counts once, those joined here too."""

    read_frames: int = 0
    """Packets and super-packets read."""
    written_frames: int = 0
    """Packets and super-packets written."""
    split_frames: int = 0
    """Frames cut or finished in software before writing, for want of offloads."""
    gso_refused: int = 0
    """Super-packets the kernel answered with EINVAL; they were split."""
    dropped_interface_down: int = 0
    """Frames dropped because the interface is down (EIO): bring it up."""
    dropped_queue_full: int = 0
    """Frames dropped because the kernel had no memory for them (EAGAIN, ENOBUFS, ENOMEM)."""
    dropped_refused: int = 0
    """Frames dropped because the kernel takes no such packet (EINVAL): neither IPv4 nor IPv6."""
    dropped_malformed: int = 0
    """Frames dropped because their vnet header contradicts the packet."""
    dropped_device_gone: int = 0
    """Frames dropped because the device was deleted (EBADFD)."""


_WRITE_DROPS: Final = {
    errno.EIO: "dropped_interface_down",
    errno.EAGAIN: "dropped_queue_full",
    errno.ENOBUFS: "dropped_queue_full",
    errno.ENOMEM: "dropped_queue_full",
    errno.EBADFD: "dropped_device_gone",
}


def open_tun(name: str, kind: Kind, mtu_bytes: int) -> tuple[int, TunInfo]:
    """Create or attach to a device and return its non-blocking descriptor; needs CAP_NET_ADMIN.

    ``name`` may be empty or end in ``%d``: the kernel chooses. The interface is not brought up.
    """
    fd, name, offloads, plain_because = _attach_best(name or "mlvpn%d", kind)
    try:
        _configure(name, mtu_bytes)
    except BaseException:
        os.close(fd)
        raise
    return fd, TunInfo(name, kind, mtu_bytes, offloads, plain_because)


def _attach_best(name: str, kind: Kind) -> tuple[int, str, Sequence[str], str]:
    if os.environ.get("MLVPN_NO_OFFLOAD"):
        plain_because = "switched off by MLVPN_NO_OFFLOAD"
    else:
        fd, actual = _attach(name, kind, _IFF_VNET_HDR)
        for level in _LEVELS:
            if _set_offloads(fd, level):
                return fd, actual, level, ""
        os.close(fd)
        plain_because = "the kernel refuses segmentation offloads on TUN devices"
    fd, actual = _attach(name, kind, 0)
    _set_offloads(fd, ())  # a persistent device may still have those of its last user
    return fd, actual, (), plain_because


def _attach(name: str, kind: Kind, extra_flags: int) -> tuple[int, str]:
    if len(name.encode()) > _INTERFACE_NAME_BYTES:
        raise SystemFailure(f"interface name {name!r} is longer than {_INTERFACE_NAME_BYTES} bytes: shorten it")
    fd = -1
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        request = struct.pack("16sH22x", name.encode(), _IFF[kind] | _IFF_NO_PI | extra_flags)
        answer = fcntl.ioctl(fd, _TUNSETIFF, request)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        cure = _OPEN_CURES.get(error.errno or 0, "see the kernel log")
        raise SystemFailure(f"cannot open {kind} device {name}: {error.strerror}; {cure}") from error
    return fd, answer[:16].rstrip(b"\0").decode()


def _set_offloads(fd: int, names: Sequence[str]) -> bool:
    """Ask for offloads; the kernel refuses the whole set when it does not know one, so asking is probing."""
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, sum(_OFFLOADS[name] for name in names))
    except OSError:
        return False
    return True


def _configure(name: str, mtu_bytes: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value, what in (
            (_SIOCSIFMTU, mtu_bytes, f"an MTU of {mtu_bytes}"),
            (_SIOCSIFTXQLEN, TX_QUEUE_PACKETS, f"a queue of {TX_QUEUE_PACKETS} packets"),
        ):
            try:
                fcntl.ioctl(control, request, struct.pack("16si20x", name.encode(), value))
            except OSError as error:
                raise SystemFailure(f"{name} does not take {what}: {error.strerror}; choose another value") from error


class Tun:
    """An open device in the worker: bursts of TUN frames in and out. Owned by the packet loop, one thread."""

    def __init__(self, fd: int, info: TunInfo) -> None:
        self.info = info
        self.counters = TunCounters()
        self._fd = fd
        self._is_plain = not info.offloads
        self._joins_udp = info.kind == "tun" and "uso4" in info.offloads
        self._refusals = dict.fromkeys(_SUPER_PACKETS, 0)
        self._in_software: set[int] = set()

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._fd

    def close(self) -> None:
        """Give the device back; unless it is persistent it disappears."""
        os.close(self._fd)

    def describe(self) -> dict[str, Any]:
        """Return what ``status`` shows, JSON-able."""
        fallbacks = [
            f"{_SUPER_PACKETS[gso_type]} super-packets are split in software: the kernel refused {REFUSALS}"
            for gso_type in sorted(self._in_software)
        ]
        return {
            **asdict(self.info),
            "offloads": list(self.info.offloads),
            "fallbacks": fallbacks,
            "counters": asdict(self.counters),
        }

    def read_burst(self, max_frames: int, max_bytes: int) -> list[bytes]:
        """Read TUN frames until the device is empty or a budget is used up. HOT PATH."""
        frames: list[bytes] = []
        fd, is_plain, budget = self._fd, self._is_plain, max_bytes
        try:
            while budget > 0 and len(frames) < max_frames:
                frame = os.read(fd, FRAME_BYTES)
                if is_plain:
                    frame = NO_OFFLOAD + frame
                budget -= len(frame)
                frames.append(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            name = self.info.name
            raise SystemFailure(f"{name} cannot be read ({error.strerror}): was it deleted? Start again") from error
        self.counters.read_frames += len(frames)
        return frames

    def write_burst(self, deliveries: Sequence[Delivery]) -> None:
        """Write frames, one ``writev`` each; what cannot be written is dropped and counted. HOT PATH."""
        if self._is_plain:
            written = sum(self._write_split(b"".join(buffers)) for buffers in deliveries)
        elif self._in_software:
            written = sum(self._write_checked(b"".join(buffers)) for buffers in deliveries)
        else:
            if self._joins_udp and len(deliveries) >= LEAST_PACKETS:
                deliveries = join_writes(deliveries)
            fd, written = self._fd, len(deliveries)
            for buffers in deliveries:
                try:
                    os.writev(fd, buffers)
                except OSError as error:
                    written -= not self._rescue(b"".join(buffers), error)
        self.counters.written_frames += written

    def _write_checked(self, frame: bytes) -> bool:
        """Write a frame to a device that refuses super-packets of some type; say whether it went out."""
        if _gso_type(frame) in self._in_software:
            return self._write_split(frame)
        try:
            os.write(self._fd, frame)
        except OSError as error:
            return self._rescue(frame, error)
        return True

    def _rescue(self, frame: bytes, error: OSError) -> bool:
        """Write a refused super-packet as packets; say whether that worked."""
        gso_type = _gso_type(frame)
        if error.errno != errno.EINVAL or gso_type not in self._refusals:
            return self._drop(error)
        if not self._write_split(frame):
            return False  # the frame was the trouble, not the kernel
        self.counters.gso_refused += 1
        self._refusals[gso_type] += 1
        if self._refusals[gso_type] >= REFUSALS:
            self._in_software.add(gso_type)
        return True

    def _write_split(self, frame: bytes) -> bool:
        """Write a frame as finished packets; say whether all went out."""
        try:
            packets = segment(frame)
        except PeerError:
            self.counters.dropped_malformed += 1
            return False
        if packets[0] is not frame:
            self.counters.split_frames += 1
        skip = HEADER_BYTES if self._is_plain else 0
        try:
            for packet in packets:
                os.write(self._fd, packet[skip:])
        except OSError as error:
            return self._drop(error)
        return True

    def _drop(self, error: OSError) -> bool:
        cause = _WRITE_DROPS.get(error.errno or 0, "dropped_refused")
        setattr(self.counters, cause, getattr(self.counters, cause) + 1)
        return False


def _gso_type(frame: bytes) -> int:
    return VnetHeader.unpack(frame).gso_type & ~GSO_ECN
