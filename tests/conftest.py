"""What all tests share: the marker for tests that need a tool of the operating system, and which tests come first."""

import os
import shutil

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test by the name of the tool it lacks; where tools are required, fail instead, so that no skip goes unseen."""
    missing = [tool for mark in item.iter_markers("needs") for tool in mark.args if shutil.which(tool) is None]
    if not missing:
        return
    reason = f"needs {', '.join(missing)}"
    if os.environ.get("CARNET_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}: install it, for CARNET_REQUIRE_TOOLS=1 allows no skip", pytrace=False)
    pytest.skip(reason)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that run for minutes begin first, so that no worker is alone with them at the end."""
    items.sort(key=lambda item: "simulation" not in item.path.parts)
