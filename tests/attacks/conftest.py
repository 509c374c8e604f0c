"""Fixtures: two whole sites, as the crossing tests have them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from tests.attacks.parties import Peers, peers_of
from tests.crossing.sites import World, make_template, world_from


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Sites run under uvloop, as `carnet-gateway serve` runs them."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, made once."""
    root = tmp_path_factory.mktemp("attacks")
    asyncio.run(make_template(root))
    return root


@pytest.fixture
async def world(template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, running."""
    async with world_from(template, tmp_path / "world") as running:
        yield running


@pytest.fixture
async def peers(world: World) -> AsyncIterator[Peers]:
    """Both sites, and what whoever holds the keys of one can say to the other."""
    async with peers_of(world) as found:
        yield found
