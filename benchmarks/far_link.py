"""The link to another continent, as a process: keeps each packet between two TUN devices for as long as it would be on its way.

`python -m benchmarks.far_link FAR NEAR --round-trip-ms 200` makes the device `v0` in the network namespace FAR and `v1` in NEAR,
writes a line once both are there, and carries packets until it is ended. The kernels' own TCP does the rest: slow start, windows,
retransmissions. It needs root and /dev/net/tun, where the kernel's own emulator would need a module that many machines lack.
"""

import argparse
import ctypes
import errno
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_OFFLOAD_CHECKSUM, _OFFLOAD_TSO4, _OFFLOAD_TSO6 = 0x01, 0x02, 0x04
_PACKET_BYTES_MAX = 10 + (64 << 10) + 64
_PACKETS_AT_ONCE = 64


@dataclass(frozen=True)
class Link:
    """What the link is like, in each direction."""

    one_way_s: float
    bytes_per_s: float
    loss: float
    """The share of packets that are lost on their way."""
    buffer_bytes: float
    """What the router before it keeps; what comes beyond is dropped."""


class Direction:
    """Packets on their way to one end."""

    def __init__(self, link: Link, chance: random.Random) -> None:
        """Begin with none; `chance` says which are lost."""
        self._link = link
        self._chance = chance
        self._free_at = 0.0
        """When the last byte so far will have left the router."""
        self._moving: deque[tuple[float, bytes]] = deque()

    def send(self, packet: bytes, moment: float) -> None:
        """Take a packet at `moment`, in seconds of any clock."""
        link = self._link
        leaves = max(moment, self._free_at)
        if (leaves - moment) * link.bytes_per_s > link.buffer_bytes:
            return
        self._free_at = leaves + len(packet) / link.bytes_per_s
        if link.loss == 0 or self._chance.random() >= link.loss:
            self._moving.append((self._free_at + link.one_way_s, packet))

    def arrived(self, moment: float) -> Iterator[bytes]:
        """Yield the packets that are there by `moment`, in order, once each."""
        while self._moving and self._moving[0][0] <= moment:
            yield self._moving.popleft()[1]

    @property
    def next_at(self) -> float:
        """When the next packet is there; infinity if none is on its way."""
        return self._moving[0][0] if self._moving else float("inf")


def carry(ends: tuple[int, int], link: Link, seed: int) -> None:
    """Carry packets between two TUN descriptors for ever."""
    chance = random.Random(seed)
    to = {ends[0]: Direction(link, chance), ends[1]: Direction(link, chance)}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    poll = select.epoll()
    for end in ends:
        poll.register(end, select.EPOLLIN)
    while True:
        until_s = min(one.next_at for one in to.values()) - time.monotonic()
        for end, _ in poll.poll(None if until_s == float("inf") else max(0.0, until_s)):
            for packet in _packets(end):
                to[other[end]].send(packet, time.monotonic())
        for end, direction in to.items():
            for packet in direction.arrived(time.monotonic()):
                _write(end, packet)


def _packets(end: int) -> Iterator[bytes]:
    for _ in range(_PACKETS_AT_ONCE):
        try:
            yield os.read(end, _PACKET_BYTES_MAX)
        except BlockingIOError:
            return


def _write(end: int, packet: bytes) -> None:
    try:
        os.write(end, packet)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.ENOBUFS, errno.EINVAL}:
            raise


def open_tun(namespace: str, name: str, *, large: bool) -> int:
    """Return the descriptor of a new TUN device in a network namespace; this process stays in that namespace.

    `large` lets the kernel hand over what it would cut into packets as one piece, as to a network card that does that itself.
    """
    with Path("/run/netns", namespace).open("rb") as entered:
        if ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if large else 0)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode("ascii"), flags))
    if large:
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _OFFLOAD_CHECKSUM | _OFFLOAD_TSO4 | _OFFLOAD_TSO6)
    return descriptor


def main() -> int:
    """Make both devices, say so, carry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("far")
    parser.add_argument("near")
    parser.add_argument("--round-trip-ms", type=float, default=200.0)
    parser.add_argument("--mbit", type=float, default=1000.0)
    parser.add_argument("--loss-percent", type=float, default=0.0)
    given = parser.parse_args()
    rate = given.mbit * 1e6 / 8
    buffered = rate * max(0.02, given.round_trip_ms / 1000)
    link = Link(given.round_trip_ms / 2000, rate, given.loss_percent / 100, buffered)
    # Where packets are lost they are lost one by one, so each is carried by itself.
    large = given.loss_percent == 0
    ends = (open_tun(given.far, "v0", large=large), open_tun(given.near, "v1", large=large))
    print("ready", flush=True)
    carry(ends, link, seed=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
