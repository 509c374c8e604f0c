import asyncio
import contextlib

import pytest

from carnet.entries import EntryType
from carnet.keys import SigningKey
from gateway.translog.log import TransparencyLog
from tests.gateway.samples import open_catalog

ORIGIN = "acme.example/site/us/log"
KEY = SigningKey(bytes(range(32)))


class Site:
    """A catalog and a log over one directory; can be stopped and started again as after a crash."""

    def __init__(self, directory):
        self.directory = directory
        self.catalog = None
        self.log = None

    def open(self, *, catalog_step=None, log_step=None):
        settings = {} if catalog_step is None else {"step": catalog_step}
        self.catalog = open_catalog(self.directory, **settings)
        settings = {} if log_step is None else {"step": log_step}
        self.log = TransparencyLog(self.catalog, self.directory / "log", origin=ORIGIN, key=KEY, **settings)
        return self

    def close(self):
        self.catalog.close()

    async def append(self, count=1):
        def change(t):
            return [t.append(EntryType.TRANSFER_DECLARED, {"transfer": f"{n:032x}", "size": n}) for n in range(count)]

        return (await self.catalog.write(change))[-1]

    async def sequence(self):
        while await self.log._sequencer.sequence():
            pass

    async def fill(self, *counts):
        """Start the log and publish a checkpoint after each of `counts` entries."""
        await self.log.start()
        for count in counts:
            await self.append(count)
            await self.sequence()

    @contextlib.asynccontextmanager
    async def running(self):
        await self.log.start()
        task = asyncio.create_task(self.log.run())
        try:
            yield self.log
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path).open()
    yield site
    site.close()


@pytest.fixture
def new_site(tmp_path):
    """Make sites in directories of their own."""
    return lambda name: Site(tmp_path / name)
