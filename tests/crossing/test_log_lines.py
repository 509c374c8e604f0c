"""The log lines of two sites: one search for a transfer's id tells its story, and no line tells what was moved."""

import io
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog

from carnet.errors import CarnetError, NotFound
from gateway.telemetry import logs
from tests.attacks.parties import noise
from tests.crossing.sites import World

CANARY = "canary-4c1b"


@pytest.fixture
async def lines(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[io.StringIO]:
    """Everything that both sites log from now on."""
    stream = io.StringIO()
    logs.configure("info", stream)
    monkeypatch.setattr("gateway.assembly.configure", lambda _level: None)
    yield stream
    structlog.reset_defaults()


def told(stream: io.StringIO, event: str, **fields: Any) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [one for one in found if one["event"] == event and all(one.get(name) == value for name, value in fields.items())]


async def test_each_change_of_state_is_told_at_both_sites(world: World, tmp_path: Path, lines: io.StringIO) -> None:
    result = await world.push(f"file:{noise(tmp_path / CANARY, 1_000_000)}", f"eu:{CANARY}:{CANARY}")
    transfer = result.view.transfer
    await world.us.stop()
    await world.eu.stop()
    here = [(one["before"], one["after"]) for one in told(lines, "transfer_changed", transfer=transfer, peer=None)]
    there = [(one["before"], one["after"]) for one in told(lines, "transfer_changed", transfer=transfer, peer="us")]
    delivery = [(one["before"], one["after"]) for one in told(lines, "delivery_changed", transfer=transfer, peer="eu")]

    assert here[0] == (None, "declared")
    assert here[-1][1] == "admitted"
    assert there[0] == (None, "receiving")
    assert there[-1][1] == "delivered"
    assert delivery[0] == (None, "waiting")
    assert delivery[-1] == ("released", "delivered")
    for story in (here, there, delivery):
        assert all(one[1] == following[0] for one, following in pairwise(story)), story
    assert CANARY not in lines.getvalue()
    assert str(result.view.digest) not in lines.getvalue()


async def test_the_request_that_caused_a_change_is_named_and_goes_along_to_the_other_site(
    world: World, tmp_path: Path, lines: io.StringIO
) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 10_000)}", "eu:app:v1")
    await world.us.stop()
    await world.eu.stop()
    transfer = result.view.transfer
    [began] = told(lines, "transfer_changed", transfer=transfer, before=None, peer="us")
    [exchange] = told(lines, "request_answered", request=began["request"])
    sent = told(lines, "delivery_changed", transfer=transfer, after="stored")

    assert (exchange["route"], exchange["identity"]) == ("transfers.forward", "spiffe://test.example/site/us/gateway/us")
    assert exchange["caller_request"] in {one["request"] for one in sent}


async def test_a_refusal_is_told_with_its_code_and_not_more_often_than_bearable(world: World, lines: io.StringIO) -> None:
    from agent.session import open_session
    from carnet.identifiers import Repository, Tag

    async with open_session(world.us.agent) as session:
        for _ in range(80):
            with pytest.raises(NotFound):
                await session.client.artifact(Repository(CANARY), Tag("v1"))
    refused = told(lines, "request_refused", code="E-ARTIFACT-UNKNOWN")

    assert 50 <= len(refused) < 80
    assert {one["identity"] for one in refused} == {"spiffe://test.example/site/us/agent/agent"}
    assert CANARY not in lines.getvalue()


async def test_a_limit_that_refused_is_in_the_line(world: World, tmp_path: Path, lines: io.StringIO) -> None:
    await world.us.stop()
    world.us.limits = world.us.limits.model_copy(update={"uncommitted_bytes_max": 1_000})
    await world.us.start()
    with pytest.raises(CarnetError):
        await world.push(f"file:{noise(tmp_path / 'a', 100_000)}", "app:v1")

    assert told(lines, "request_refused", code="E-LIMIT", limit="uncommitted_bytes_max")
