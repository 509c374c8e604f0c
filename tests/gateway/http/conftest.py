"""The gateway runs under uvloop, and so do these tests."""

import asyncio

import pytest
import uvloop

from tests.gateway.http.wire import Wire


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item):
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
async def opened():
    """The connections that a test opened, cut when it ends."""
    yield Wire.opened
    for wire in Wire.opened:
        wire.writer.transport.abort()
        wire.writer.close()
    Wire.opened.clear()
    await asyncio.sleep(0)
