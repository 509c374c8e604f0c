"""Programs run under uvloop where there is one, else under asyncio's own loop; the client is tried under both: TLS differs."""

import asyncio

import pytest
import uvloop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item):
    if item.path.name not in {"test_client.py", "test_connector.py"}:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
