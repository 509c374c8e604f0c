"""The wire between both ends: a veth pair between two network namespaces, a far link, or loopback; and what went over it."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Self

_PREFIX = "carnet-bench-"
_FIRST_PORT = 20_000
_ROOT = Path(__file__).resolve().parents[1]


class Network(AbstractContextManager["Network"]):
    """Loopback; the base of the veth pair. Servers run at the far end, clients at the near one."""

    kind = "loopback"
    says = "loopback; bytes on the wire are the counter of lo, both directions together, the same for all tools"
    address = "127.0.0.1"
    far: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    """What goes before a command to run it at that end."""

    def __exit__(self, *_: object) -> None:
        """Leave nothing."""

    def free_port(self) -> int:
        """Return a port that nobody listens on at the far end."""
        with closing(socket.socket()) as probe:
            probe.bind((self.address, 0))
            return int(probe.getsockname()[1])

    def counters(self) -> tuple[int, int]:
        """Return the bytes received and sent by the interface until now."""
        return parse_counters(Path("/proc/net/dev").read_text(encoding="ascii"), "lo")


class VethNetwork(Network):
    """Two namespaces and the pair between them; both go with the context."""

    kind = "veth"
    says = "a veth pair between two network namespaces; bytes on the wire are its counter, the larger direction"
    address = "10.79.83.1"

    def __init__(self) -> None:
        """Name the namespaces after this process."""
        self._far, self._near = f"{_PREFIX}{os.getpid()}-far", f"{_PREFIX}{os.getpid()}-near"
        self.far = ("ip", "netns", "exec", self._far)
        self.near = ("ip", "netns", "exec", self._near)
        self._port = _FIRST_PORT

    def __enter__(self) -> Self:
        """Make both; raise `CalledProcessError` where that is not possible."""
        try:
            for name in (self._far, self._near):
                _ip("netns", "add", name)
            self._connect()
            for name, link, address in ((self._far, "v0", self.address), (self._near, "v1", "10.79.83.2")):
                _ip("-n", name, "link", "set", link, "addrgenmode", "none")
                _ip("-n", name, "address", "add", f"{address}/24", "dev", link)
                for one in ("lo", link):
                    _ip("-n", name, "link", "set", one, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        """Make `v0` in the far namespace and `v1` in the near one."""
        _ip("link", "add", "v0", "netns", self._far, "type", "veth", "peer", "name", "v1", "netns", self._near)

    def __exit__(self, *_: object) -> None:
        """Remove the namespaces, and with them the pair."""
        for name in (self._far, self._near):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)

    def free_port(self) -> int:
        """Return the next port: nobody else is in the namespace."""
        self._port += 1
        return self._port

    def counters(self) -> tuple[int, int]:
        """Return the bytes received and sent by the far end's interface until now."""
        told = subprocess.run([*self.far, "cat", "/proc/net/dev"], check=True, capture_output=True, text=True)
        return parse_counters(told.stdout, "v0")


class FarNetwork(VethNetwork):
    """Two namespaces and a link between them that is as far as another continent; see `benchmarks.far_link`."""

    kind = "far"

    def __init__(self, *, round_trip_ms: float, mbit: float, loss_percent: float) -> None:
        """Take what the link is like."""
        super().__init__()
        self._options = [f"--round-trip-ms={round_trip_ms}", f"--mbit={mbit}", f"--loss-percent={loss_percent}"]
        self._link: subprocess.Popen[bytes] | None = None
        lost = f", {loss_percent:g} % of packets lost" if loss_percent else ""
        what = f"a round trip of {round_trip_ms:g} ms, {mbit:g} Mbit/s{lost}"
        self.says = f"{what}; bytes on the wire are the counter of the far end, the larger direction"

    def _connect(self) -> None:
        command = [sys.executable, "-m", "benchmarks.far_link", self._far, self._near, *self._options]
        self._link = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE)
        assert self._link.stdout is not None
        if self._link.stdout.readline() != b"ready\n":
            raise OSError("the far link did not come up")
        for name, device in ((self._far, "v0"), (self._near, "v1")):
            _ip("-n", name, "link", "set", device, "txqueuelen", "10000")

    def __exit__(self, *_: object) -> None:
        """End the link and remove the namespaces."""
        if self._link is not None:
            self._link.kill()
            self._link.communicate()
        super().__exit__()


def parse_counters(text: str, interface: str) -> tuple[int, int]:
    """Return received and sent bytes of an interface from what /proc/net/dev says; raise `KeyError` if it is not there."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == interface:
            fields = rest.split()
            return int(fields[0]), int(fields[8])
    raise KeyError(interface)


def open_network(wanted: str | None = None) -> Network:
    """Return the veth pair where this user can make one, else loopback; `wanted` names one of both."""
    if wanted == "loopback" or (wanted is None and not _can_make_namespaces()):
        return Network()
    return VethNetwork()


def remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    for path in Path("/run/netns").glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", owner).exists():
            subprocess.run(["ip", "netns", "delete", path.name], check=False, stderr=subprocess.DEVNULL)


def _can_make_namespaces() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    try:
        with VethNetwork():
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stderr=subprocess.DEVNULL)
