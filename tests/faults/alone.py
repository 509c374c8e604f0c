"""The site us alone, with its agent and what an operator reads of it: all that is between one agent and its home."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from agent.pull import pull
from agent.push import PushResult
from agent.session import Session, open_session
from agent.settings import AgentSettings
from agent.sinks import open_sink
from carnet.flow.link import Timeouts
from carnet.flow.progress import Progress
from carnet.identifiers import Repository, Tag
from gateway.settings import Telemetry
from tests.crossing.ports import free_port
from tests.crossing.sites import LiveSite, push_in, world_from

ONCE = Timeouts(retry_s=0.0)
PATIENT = Timeouts(retry_s=30.0)


@asynccontextmanager
async def us_alone(template: Path, root: Path) -> AsyncIterator[LiveSite]:
    """Yield the site us of a copy of the template, not started, with a listener for metrics; it is stopped at the end."""
    async with world_from(template, root, start=False) as world:
        world.us.telemetry = Telemetry(listen=f"127.0.0.1:{free_port()}")
        yield world.us


async def push_as(
    agent: AgentSettings, source: Path, name: str, timeouts: Timeouts = PATIENT, connections: int | None = None, **changes: Any
) -> PushResult:
    """Push to the home site, over connections of its own."""
    async with open_session(agent, timeouts=timeouts, connections=connections) as session:
        return await push_in(session, f"file:{source}", name, **changes)


async def pull_as(agent: AgentSettings, name: str, out: Path, timeouts: Timeouts = PATIENT) -> bytes:
    """Pull from the home site; return what came."""
    async with open_session(agent, timeouts=timeouts) as session:
        await pull_in(session, name, f"file:{out}")
    return out.read_bytes()


async def pull_in(session: Session, name: str, sink: str) -> None:
    """Pull in a session that is open."""
    repository, tag = name.split(":")
    await pull(session, Repository(repository), Tag(tag), lambda kind: open_sink(sink, kind, tag=tag, name=name), Progress())


async def gauge(site: LiveSite, name: str) -> float:
    """Return a number without labels that the site shows to its operators."""
    async with (
        aiohttp.ClientSession() as client,
        client.get(f"http://{site.telemetry.listen}/metrics") as response,
    ):
        text = await response.text()
    [found] = [one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name]
    return float(found.value)
