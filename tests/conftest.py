"""What all tests share: the marker for tests that need a tool of the operating system."""

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
