"""Agents run under asyncio's own loop, gateways under uvloop; their TLS errors differ, so the client is tried under both."""

import asyncio

import pytest
import uvloop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item):
    if item.path.name != "test_client.py":
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
