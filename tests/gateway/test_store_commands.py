"""`carnet-gateway store stats` and `store reclaim`, beside a served site and a stopped one, as an operator runs them."""

import asyncio
import json
import shutil
from datetime import UTC, datetime

import pytest

from carnet.entries import EntryType
from gateway.catalog.engine import SqliteCatalog
from gateway.clock import SystemClock
from gateway.keyring import FileKeyring
from gateway.offline import create_site, row_seal
from gateway.records import StoredSegment
from gateway.sitedir import SitePaths, first_policy, hold_site
from gateway.storage.local import LocalBlobStore
from gateway.translog.log import TransparencyLog
from tests.gateway.conftest import settings_for
from tests.gateway.samples import segment_of, transfer, transfer_id
from tests.gateway.test_commands import assert_failed, gateway
from tests.gateway.test_dev import running

__all__ = ["gateway"]
KEPT, STRAY = b"what a transfer needs", b"a stray"


def path_of(root, data):
    segment = segment_of(data)
    return root / "store" / segment[3:5] / segment


def leave_behind(root):
    """Put into the store what a crash would leave: a segment without a row, and half of another."""
    path_of(root, STRAY).write_bytes(STRAY)
    (root / "store" / "incoming" / "9-left").write_bytes(b"half")


def remember(root):
    """Put into the store a segment that a transfer needs."""
    path_of(root, KEPT).write_bytes(KEPT)

    def change(t):
        t.save_transfer(transfer(bytes_received=len(KEPT), state="receiving"))
        t.add_segment(transfer_id(1), StoredSegment(id=segment_of(KEPT), size=len(KEPT)))

    async def write():
        catalog = SqliteCatalog(root / "catalog.sqlite", clock=SystemClock(), seal=row_seal(SitePaths(root)))
        await catalog.write(change)
        catalog.close()

    asyncio.run(write())


@pytest.fixture
def site(tmp_path):
    """A stopped site with one segment that is needed, one that is not, and a temporary file."""
    root = tmp_path / "us"
    asyncio.run(create_site(root, settings_for(), first_policy(), datetime.now(UTC)))
    LocalBlobStore(root / "store").close()
    remember(root)
    leave_behind(root)
    return root


def test_the_figures_of_a_store_are_told_to_persons_and_to_programs(gateway, site):
    status, out, _ = gateway("store", "stats", site)
    assert status == 0
    assert f"store        2 segments, {len(KEPT) + len(STRAY)} bytes" in out
    assert f"in transfer  1 segments, {len(KEPT)} bytes" in out
    assert f"nobody's     1 segments, {len(STRAY)} bytes; see carnet-gateway store reclaim {site} --dry-run" in out
    assert f"repository   app  {len(KEPT)} bytes" in out

    figures = json.loads(gateway("store", "stats", site, "--json")[1])
    assert figures["known"] == {"segments": 1, "bytes": len(KEPT)}
    assert figures["temporary"] == {"files": 1, "bytes": 4}
    assert figures["unfinished_bytes"] == len(KEPT)
    assert figures["disk"]["reserve_bytes"] == 1 << 30
    assert figures["disk"]["free_bytes"] > 0
    assert figures["repositories"] == [{"repository": "app", "bytes": len(KEPT)}]


def test_a_stopped_sites_store_is_reclaimed_by_the_command_itself(gateway, site):
    found = json.loads(gateway("store", "reclaim", site, "--dry-run", "--json")[1])
    assert found == {"dry_run": True, "segments": 1, "segment_bytes": len(STRAY), "temporary_files": 1, "temporary_bytes": 4}
    assert path_of(site, STRAY).exists()

    assert gateway("store", "reclaim", site)[1] == (
        f"1 segments, {len(STRAY)} bytes removed\n1 temporary files, 4 bytes removed\n"
    )
    assert not path_of(site, STRAY).exists()
    assert path_of(site, KEPT).read_bytes() == KEPT
    assert gateway("store", "check", site)[0] == 0


def test_a_served_sites_store_is_reclaimed_by_the_process_that_serves_it(gateway, tmp_path):
    root = tmp_path / "site"
    with running(root):
        remember(root)
        leave_behind(root)
        status, out, err = gateway("store", "reclaim", root, "--json")

    assert (status, err) == (0, "the site is served; the process that serves it is asked\n")
    assert json.loads(out)["segments"] == 1
    assert not path_of(root, STRAY).exists()
    assert path_of(root, KEPT).read_bytes() == KEPT


def test_nobody_serves_the_site_while_a_command_reclaims(gateway, site, monkeypatch):
    """The lock is held from before the first question to the catalog until the store is closed."""
    from gateway.reclaiming import Reclaim

    run, held = Reclaim.run, []

    async def watched(reclaim, *, dry_run):
        try:
            with hold_site(SitePaths(site)):
                held.append(False)
        except Exception as error:  # noqa: BLE001 - whatever it is is looked at
            held.append(error.code)
        return await run(reclaim, dry_run=dry_run)

    monkeypatch.setattr(Reclaim, "run", watched)
    gateway("store", "reclaim", site)

    assert held == ["E-BUSY"]


def test_nothing_is_removed_beside_a_damaged_catalog(gateway, site):
    catalog = site / "catalog.sqlite"
    data = bytearray(catalog.read_bytes())
    # Every page but the first two: the schema is still read, the tables are not.
    data[8_192:] = b"\xa5" * (len(data) - 8_192)
    catalog.write_bytes(data)

    status, _, err = gateway("store", "reclaim", site)

    assert (status, "[E-DATABASE]" in err) == (1, True)
    assert path_of(site, STRAY).exists()
    assert path_of(site, KEPT).exists()


def test_nothing_is_removed_without_a_catalog(gateway, site):
    (site / "catalog.sqlite").unlink()

    assert_failed(gateway("store", "reclaim", site), 2, "E-DATABASE")
    assert path_of(site, KEPT).exists()


def test_nothing_is_removed_on_the_word_of_a_catalog_that_is_older_than_the_published_log(gateway, site, tmp_path):
    """Put back by hand, it knows nothing of what came after it."""
    old = tmp_path / "old.sqlite"
    shutil.copy(site / "catalog.sqlite", old)
    paths, settings = SitePaths(site), settings_for()

    async def go_on():
        catalog = SqliteCatalog(paths.catalog, clock=SystemClock(), seal=row_seal(paths))
        log = TransparencyLog(catalog, paths.log, origin=settings.log_origin, key=FileKeyring.load(paths.keys).signing)
        await log.start()
        running = asyncio.create_task(log.run())
        await catalog.write(lambda t: t.append(EntryType.ALARM, {}))
        await log.settled()
        running.cancel()
        await asyncio.wait([running])
        catalog.close()

    asyncio.run(go_on())
    shutil.copy(old, site / "catalog.sqlite")

    assert_failed(gateway("store", "reclaim", site), 6, "E-LOG")
    assert path_of(site, STRAY).exists()
