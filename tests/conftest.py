"""What all tests share: the marker for tests that need a tool, the counts of the bounded sample, and which tests come first."""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

_LONG = {"test_open_files", "test_many_transfers", "test_console"}
"""Tests that take a good part of a minute each, beside the simulation."""
# How fast examples are made is the machine's affair, and no test judges it.
settings.register_profile("whole", suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("sample", settings.get_profile("whole"), max_examples=25)


def pytest_configure(config: pytest.Config) -> None:
    """Let properties be tried on fewer examples where the whole counts are not asked for."""
    settings.load_profile("sample" if config.option.markexpr == "not full" else "whole")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache of whoever runs the tests out of them, and them out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
    items.sort(key=lambda item: "simulation" not in item.path.parts and item.path.stem not in _LONG)
