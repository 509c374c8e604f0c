"""A site's catalog, keys and trust without its server: what the commands beside it work on.

The server may run at the same time: SQLite orders the writers, log entries that a command appends are published by the server,
and it looks at the trust documents again at intervals.

Rules:      1. a command never publishes the log  2. a catalog of another version is refused
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from carnet.checkpoint import open_checkpoint
from carnet.errors import IntegrityError, InternalError
from carnet.keys import VerifyingKey
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.migrate import check, upgrade
from gateway.catalog.row_seal import RowSeal
from gateway.catalog.wholeness import damage_of
from gateway.clock import StandingClock, SystemClock
from gateway.enrolment import SiteFacts
from gateway.keyring import FileKeyring, load_row_key
from gateway.pki import Authority
from gateway.settings import GatewaySettings, load_settings
from gateway.sitedir import SitePaths, create_directory, finish_directory, load_authority, record_site
from gateway.storage.local import LocalBlobStore
from gateway.translog.files import LogFiles
from gateway.trusting import Trust


@dataclass(frozen=True)
class OfflineSite:
    """An open site; it is closed with the context it came from."""

    paths: SitePaths
    settings: GatewaySettings
    catalog: SqliteCatalog
    clock: SystemClock
    trust: Trust

    @property
    def facts(self) -> SiteFacts:
        """What enrolment says about the site."""
        return SiteFacts(self.settings.trust_domain, self.settings.site, self.settings.operator)

    def authority(self) -> Authority:
        """Read the issuing CA; raises as `load_authority`."""
        return load_authority(self.paths, self.settings.credentials_dir)

    def keyring(self) -> FileKeyring:
        """Read the keys; raises as `FileKeyring.load`."""
        return FileKeyring.load(self.paths.keys, credentials=self.settings.credentials_dir)


@asynccontextmanager
async def open_site(directory: Path) -> AsyncIterator[OfflineSite]:
    """Open the site in `directory`: settings, catalog, trust.

    Raises:
        CallerError: E-CONFIG for the settings, E-DATABASE for a catalog that is missing or of another version.
    """
    settings = load_settings(directory)
    paths = SitePaths(settings.data_dir)
    check(paths.catalog)
    clock = SystemClock()
    catalog = SqliteCatalog(paths.catalog, clock=clock, seal=row_seal(paths, settings.credentials_dir), readers=1)
    try:
        trust = Trust(catalog, None, clock, settings.site)
        await trust.refresh()
        yield OfflineSite(paths, settings, catalog, clock, trust)
    finally:
        catalog.close()


def row_seal(paths: SitePaths, credentials: Path | None = None) -> RowSeal:
    """Return what seals the rows of the site's catalog; the key is read at the first row that needs it."""
    return RowSeal(lambda: load_row_key(paths.keys, credentials))


async def require_sound(site: OfflineSite) -> None:
    """Return if the catalog may say what is nobody's: it is whole, and not older than the log that the site has published.

    An older one, put back by hand, would not know what came after it. Reads the whole file.

    Raises:
        InternalError: E-DATABASE. IntegrityError: E-LOG. CallerError: E-CONFIG for the keys.
    """
    damage = await asyncio.to_thread(damage_of, site.paths.catalog)
    if damage is not None:
        remedy = "restore the site's backup into a new directory"
        raise InternalError("E-DATABASE", f"the catalog is damaged: {damage}", remedy=remedy)
    note = LogFiles(site.paths.log).checkpoint()  # before the catalog is asked: a running site may add to both
    if note is None:
        return
    published = open_checkpoint(note, origin=site.settings.log_origin, key=site.keyring().signing.public).size
    known = await site.catalog.read(lambda tx: tx.log_size())
    if known < published:
        raise IntegrityError(
            "E-LOG",
            f"the log has {published} published entries, the catalog knows {known} of them: it is older than the site",
            remedy="restore the newest backup into a new directory; what came after this catalog is unknown to it",
        )


def open_store(paths: SitePaths) -> LocalBlobStore:
    """Open the segments to look at, also while the server runs. Close it at the end."""
    return LocalBlobStore(paths.store, threads=2, sweep=False)


async def create_site(directory: Path, settings: GatewaySettings, policy: str, now: datetime) -> VerifyingKey:
    """Make a new site in `directory` and return its signing key's public half.

    Steps: (1) directories, keys, CA, certificate, policy; (2) the catalog with the first log entries and the first KEM key;
    (3) the site card and, last, the settings.

    Raises:
        CallerError: E-CONFIG if there is a site, or part of one, already.
    """
    paths = SitePaths(directory)
    authority = create_directory(paths, settings, policy, now)  # (1)
    seal = row_seal(paths)
    upgrade(paths.catalog, seal)
    keyring = FileKeyring.load(paths.keys)
    catalog = SqliteCatalog(paths.catalog, clock=StandingClock(now), seal=seal, readers=1)
    try:
        await record_site(catalog, keyring, settings, now)  # (2)
    finally:
        catalog.close()
    finish_directory(paths, settings, authority, keyring.signing.public)  # (3)
    return keyring.signing.public
