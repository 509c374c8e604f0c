"""P10: the memory of a serving process does not grow with the size of an artifact, nor with what a peer leaves unfinished."""

import asyncio
import json
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.identity import load_identity
from agent.settings import AgentSettings
from carnet.flow.tls import client_context
from tests.promises.border import Border
from tests.promises.kills import noise, served

MIB = 1 << 20
STRANGER = "127.0.0.77"
"""Where thousands of connections come from: on an address of their own they take no port that a site of another test wants."""
SLACK = 96 * MIB
"""More than a serving process may grow: segments in flight, an index page or two, what the allocator keeps."""


async def growth(border: Border, tmp_path: Path, size: int) -> dict[str, int]:
    """Warm both sites up with a small push, then push `size` bytes across; return by how much the peak of each rose."""
    await border.start()
    await border.world.push(f"file:{noise(tmp_path / 'small', 4_000_000)}", "eu:app:v0")
    before = {name: served(border, name).memory_peak for name in ("us", "eu")}
    source = tmp_path / "large"
    with source.open("wb") as file:
        for number in range(size // (16 * MIB)):
            file.write(noise(tmp_path / "piece", 16 * MIB, number).read_bytes())
    await border.world.push(f"file:{source}", "eu:app:v1", timeout_s=280)
    return {name: served(border, name).memory_peak - before[name] for name in ("us", "eu")}


async def test_memory_does_not_grow_with_the_artifact(served_border: Border, tmp_path: Path) -> None:
    grown = await growth(served_border, tmp_path, 160 * MIB)

    assert max(grown.values()) < SLACK, grown


@pytest.mark.full
async def test_memory_does_not_grow_with_a_large_artifact(served_border: Border, tmp_path: Path) -> None:
    grown = await growth(served_border, tmp_path, 1_600 * MIB)

    assert max(grown.values()) < SLACK, grown


async def test_memory_is_bounded_whatever_one_agent_leaves_unfinished(served_border: Border) -> None:
    """Sixty bodies of almost a whole segment each: what is beyond one identity's share stays on its own side of the wire.

    The share is 16 MiB here, and each connection in the middle of a body may take 800 KiB; without a share it would be 110 MiB.
    """
    served(served_border, "us").overrides["LIMITS__BYTES_IN_FLIGHT_PER_IDENTITY_MAX"] = str(16 * MIB)
    await served_border.start()
    before = served(served_border, "us").memory_peak
    answers = await unfinished_bodies(served_border.world.us.agent, 60)
    grown = served(served_border, "us").memory_peak - before

    assert grown < 80 * MIB, f"{grown / MIB:.0f} MiB"
    assert answers, "some waited for the share in vain and were told so"
    for head, problem in answers:
        assert head.startswith(b"HTTP/1.1 429")
        assert problem["limit"] == "bytes_in_flight_per_identity_max"


async def unfinished_bodies(agent: AgentSettings, count: int) -> list[tuple[bytes, dict[str, Any]]]:
    """Send `count` segments without their last byte at once; return the answers of those that were not let in."""
    port = int(agent.url.rsplit(":", 1)[1])
    context = client_context(agent.identity_dir / "tls.pem", None, load_identity(agent.identity_dir).authority_pem)
    size = 1_200_000
    path = f"/v1/transfers/{'0' * 32}/segments/b3-{'0' * 64}"
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode()
    writers: list[asyncio.StreamWriter] = []

    async def send() -> tuple[bytes, dict[str, Any]]:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writers.append(writer)
        writer.write(head + bytes(size - 1))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in answer.lower().splitlines() if line.startswith(b"content-length"))
        return answer, json.loads(await reader.readexactly(length))

    tasks = [asyncio.create_task(send()) for _ in range(count)]
    try:
        # Whoever is told to come back is told at about the same time; the others never finish.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        await asyncio.wait(tasks, timeout=2)
        return [task.result() for task in tasks if task.done() and task.exception() is None]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


IDLE_BYTES_MAX = 100_000
"""What an idle connection may cost a gateway, with its TLS, HTTP and timers."""


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def idle(border: Border, count: int, stack: AsyncExitStack) -> None:
    """Open `count` connections of the agent of us, past the wire; each is answered once, and left."""
    agent, port = border.world.us.agent, border.wires["us"].back
    context = client_context(agent.identity_dir / "tls.pem", None, load_identity(agent.identity_dir).authority_pem)
    at_once = asyncio.Semaphore(32)

    async def open_one() -> None:
        async with at_once:
            reader, writer = await asyncio.open_connection("localhost", port, ssl=context, local_addr=(STRANGER, 0))
            stack.callback(_abort, writer)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

    await asyncio.gather(*(open_one() for _ in range(count)))


async def idle_cost(border: Border, tmp_path: Path, count: int) -> float:
    """Return what each of `count` idle connections added to the peak of us, while a push was served beside them."""
    settings = border.us.directory / "gateway.toml"
    share = f"connections_per_identity_max = {count + 200}\n"
    limits = f"[limits]\nconnections_max = {count + 200}\n{share}[timeouts]\nidle_s = 600.0\nhandshake_s = 60.0\n"
    settings.write_text(settings.read_text() + limits)
    await border.start()
    await border.world.push(f"file:{noise(tmp_path / 'small', 4_000_000)}", "app:v0")
    before = served(border, "us").memory_peak
    async with AsyncExitStack() as stack:
        stack.enter_context(many_files())
        await idle(border, count, stack)
        result = await border.world.push(f"file:{noise(tmp_path / 'more', 4_000_000)}", "app:v1")
        assert result.view.deliveries[0].state == "delivered"
        return (served(border, "us").memory_peak - before) / count


async def test_an_idle_connection_costs_little(served_border: Border, tmp_path: Path) -> None:
    # The allocator's own steps would hide a small cost of few connections; so would they a real one: hence the slack.
    assert await idle_cost(served_border, tmp_path, 300) < IDLE_BYTES_MAX + 16 * MIB / 300


@pytest.mark.full
async def test_ten_thousand_idle_connections_cost_little_each(served_border: Border, tmp_path: Path) -> None:
    """Where the settings let so many in, they are served too, and a push goes on beside them."""
    assert await idle_cost(served_border, tmp_path, files_for(10_000)) < IDLE_BYTES_MAX


async def test_ten_thousand_sockets_that_say_nothing_keep_nobody_out(served_border: Border, tmp_path: Path) -> None:
    """No more than a few wait for their handshake at once: neither memory nor open files are used up by the rest."""
    await served_border.start()
    await served_border.world.push(f"file:{noise(tmp_path / 'small', 4_000_000)}", "app:v0")
    before = served(served_border, "us").memory_peak
    port = served_border.wires["us"].back
    with many_files(), ExitStack() as stack:
        for _ in range(files_for(10_000)):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.bind((STRANGER, 0))
            one.connect_ex(("127.0.0.1", port))
        result = await served_border.world.push(f"file:{noise(tmp_path / 'more', 4_000_000)}", "app:v1")
        grown = served(served_border, "us").memory_peak - before

        assert result.view.deliveries[0].state == "delivered"
        assert grown < 64 * MIB, f"{grown / MIB:.0f} MiB"


def files_for(count: int) -> int:
    """Return `count`, or what a system that allows fewer open files has room for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return count if hard == resource.RLIM_INFINITY else min(count, hard - 1_024)


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process have as many open files as the system allows it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
