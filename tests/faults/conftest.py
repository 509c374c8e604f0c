"""Fixtures: served sites behind wires, and the tools of the kernel that are needed; a test without them is skipped, loudly."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults.mounts import Mounts, can_mount
from tests.promises.border import Border, border_from
from tests.promises.conftest import pytest_asyncio_loop_factories, template
from tests.promises.kills import served

__all__ = ["pytest_asyncio_loop_factories", "template"]


@pytest.fixture
async def served_border(template: Path, tmp_path: Path) -> AsyncIterator[Border]:
    """Both sites as processes, not started."""
    async with border_from(template, tmp_path / "world", served="us eu") as made:
        for name in ("us", "eu"):
            served(made, name).overrides["LIMITS__DISK_RESERVE_BYTES"] = "0"
        yield made


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip unless file systems can be mounted here."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount file systems")
    if not can_mount(tmp_path_factory.mktemp("probe")):
        pytest.skip("needs loop devices that this machine has not")


@pytest.fixture
async def mounts(may_mount: None, served_border: Border, tmp_path: Path) -> AsyncIterator[Mounts]:
    """Where a test mounts; everything is stopped and unmounted at its end."""
    made = Mounts(tmp_path / "images")
    try:
        yield made
    finally:
        for site in (served_border.us, served_border.eu):
            await site.stop()
        made.release()


@pytest.fixture(scope="session")
def strace() -> str:
    """Return the path of strace, or skip."""
    found = shutil.which("strace")
    if found is None:
        pytest.skip("needs strace")
    return found
