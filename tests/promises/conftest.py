"""Fixtures: a template of two sites that know each other, and running copies of it behind wires."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from tests.crossing.sites import make_template
from tests.promises.border import Border, border_from


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """Sites run under uvloop, as `carnet-gateway serve` runs them."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, made once."""
    root = tmp_path_factory.mktemp("promises")
    asyncio.run(make_template(root))
    return root


@pytest.fixture
async def border(template: Path, tmp_path: Path) -> AsyncIterator[Border]:
    """Both sites in this process, running."""
    async with border_from(template, tmp_path / "world") as made:
        await made.start()
        yield made


@pytest.fixture
async def cold_border(template: Path, tmp_path: Path) -> AsyncIterator[Border]:
    """Both sites in this process, not started."""
    async with border_from(template, tmp_path / "world") as made:
        yield made


@pytest.fixture
async def served_border(template: Path, tmp_path: Path) -> AsyncIterator[Border]:
    """Both sites as processes, not started."""
    async with border_from(template, tmp_path / "world", served="us eu") as made:
        yield made
