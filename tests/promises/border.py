"""Sites with a wire between them that counts, keeps and can be cut; each site in this process or in one of its own.

The sites are those of `tests.crossing.sites`. Each listens behind a proxy that has the address of its trust bundle, so agents and
peers all pass it.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from carnet.identifiers import SegmentId, SiteName
from tests.crossing.ports import free_port
from tests.crossing.sites import LiveSite, World

ROOT = Path(__file__).parents[2]
_PIECE = 65_536


class Wire:
    """A TCP proxy before one site: counts what goes to it (`up`) and comes from it (`down`), and keeps what went to it."""

    def __init__(self, front: int, back: int) -> None:
        self.front = front
        self.back = back
        self.up = 0
        self.down = 0
        self.kept = bytearray()
        self.keeps = False
        self.on_up: Callable[[int], None] = lambda _total: None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.front, limit=_PIECE)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection now."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.back, limit=_PIECE)
        except OSError:
            writer.transport.abort()
            return
        self._open.add(there)
        try:
            await asyncio.gather(self._pump(reader, there, is_up=True), self._pump(there_reader, writer, is_up=False))
        finally:
            for one in (writer, there):
                self._open.discard(one)
                one.transport.abort()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_PIECE):
                if is_up:
                    self.up += len(data)
                    self.on_up(self.up)
                else:
                    self.down += len(data)
                if self.keeps:
                    self.kept += data
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class ServedSite(LiveSite):
    """A site in a process of its own; `wrapper` stands before its command, `failpoint` is kind, step and number.

    `overrides` are settings by their environment variables, `LIMITS__DISK_RESERVE_BYTES` for example.
    """

    wrapper: tuple[str, ...] = ()
    failpoint: tuple[str, str, int] | None = None
    overrides: dict[str, str] = field(default_factory=dict)
    verbose: bool = False
    said: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None
    _reading: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        """Serve; returns when it accepts connections."""
        (self.directory / "armed").unlink(missing_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CARNET_")}
        environment["CARNET_GATEWAY_TIMEOUTS__DRAIN_S"] = "2"
        environment["CARNET_GATEWAY_LOG_LEVEL"] = "debug" if self.verbose else "warning"
        environment |= {f"CARNET_GATEWAY_{name}": value for name, value in self.overrides.items()}
        failpoint = () if self.failpoint is None else tuple(str(part) for part in self.failpoint)
        command = [*self.wrapper, sys.executable, "-m", "tests.promises.served", str(self.directory), *failpoint]
        self.process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        serves = asyncio.Event()
        self._reading = asyncio.create_task(self._read(self.process, serves))
        waiting = asyncio.create_task(serves.wait())
        await asyncio.wait([waiting, self._reading], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if not serves.is_set():
            waiting.cancel()
            raise AssertionError(f"site {self.name} ended before it served:\n" + "".join(self.said[-20:]))

    async def _read(self, process: asyncio.subprocess.Process, serves: asyncio.Event) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            self.said.append(line.decode(errors="replace"))
            if " serves https://" in self.said[-1]:
                serves.set()

    def arm(self) -> None:
        """Let the failpoint count from now on."""
        (self.directory / "armed").touch()

    def kill(self) -> None:
        """End the process as a power switch does."""
        self._signal(signal.SIGKILL)

    async def dead(self) -> None:
        """Return when the process is gone, however it went."""
        assert self.process is not None
        await self.process.wait()
        if self._reading is not None:
            await self._reading
        self.process = None

    async def stop(self) -> None:
        """Stop by SIGTERM; does nothing if it does not run."""
        if self.process is not None:
            self._signal(signal.SIGTERM)
            await self.dead()

    @property
    def memory_peak(self) -> int:
        """Return VmHWM of the process, in bytes."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass
class Border:
    """Two sites, and the wire before each."""

    world: World
    wires: dict[str, Wire]

    @property
    def us(self) -> LiveSite:
        return self.world.us

    @property
    def eu(self) -> LiveSite:
        return self.world.eu

    async def start(self) -> None:
        """Start every site; returns when us can push to eu."""
        await self.world.start()


@asynccontextmanager
async def border_from(template: Path, root: Path, *, served: str = "") -> AsyncIterator[Border]:
    """Yield a copy of the template, not started, with the wires up; `served` names the sites that get a process of their own."""
    shutil.copytree(template, root)
    sites, wires = {}, {}
    for name in sorted(path.parent.name for path in root.glob("*/gateway.toml")):
        kind = ServedSite if name in served.split() else LiveSite
        site = kind(SiteName(name), root / name, root / f"agent-{name}")
        port = urlsplit(site.settings.url).port
        assert port is not None
        wires[name] = Wire(port, free_port())
        path = site.directory / "gateway.toml"
        path.write_text(path.read_text().replace(f'"127.0.0.1:{port}"', f'"127.0.0.1:{wires[name].back}"'))
        sites[name] = site
        await wires[name].start()
    border = Border(World(sites.pop("us"), sites.pop("eu"), root, sites), wires)
    try:
        yield border
    finally:
        await border.world.stop()
        for wire in wires.values():
            await wire.stop()


async def kept_segments(site: LiveSite) -> set[SegmentId]:
    """Return the segments that the catalog of a site that does not run says are here, each of which its store must give back."""
    from gateway.offline import open_site, open_store

    async with open_site(site.directory) as opened:
        rows = await opened.catalog.read(lambda tx: tx.stored_segments(after=None, limit=10_000))
    store = open_store(site.paths)
    try:
        for row in rows:
            assert len(await store.get(row.id)) == row.size
    finally:
        store.close()
    return {row.id for row in rows}


async def verified_log(site: LiveSite) -> dict[str, int]:
    """Return the entries by type of a site that does not run, after its log was verified offline."""
    from gateway.offline import open_site
    from gateway.translog.verify import verify_directory

    async with open_site(site.directory) as opened:
        key = opened.keyring().signing.public
    return dict(verify_directory(site.paths.log, origin=site.settings.log_origin, key=key).entries_by_type)


async def carnet(site: LiveSite, *arguments: str) -> tuple[int, str, str]:
    """Run `carnet` as the agent of a site; return its status and what it says."""
    agent = site.agent
    settings = site.agent_dir / "carnet.toml"
    settings.write_text(f'url = "{agent.url}"\nsite = "{site.name}"\nidentity_dir = "{agent.identity_dir}"\n')
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARNET_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from agent.cli import main; main()", "--config", str(settings), *arguments,
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
