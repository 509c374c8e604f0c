"""A site's catalog, keys and trust without its server: what the commands beside it work on.

The server may run at the same time: SQLite orders the writers, log entries that a command appends are published by the server,
and it looks at the trust documents again at intervals.

Rules:      1. a command never publishes the log  2. a catalog of another version is refused
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from carnet.keys import VerifyingKey
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.migrate import check, upgrade
from gateway.catalog.row_seal import RowSeal
from gateway.clock import StandingClock, SystemClock
from gateway.enrolment import SiteFacts
from gateway.keyring import FileKeyring, load_row_key
from gateway.pki import Authority
from gateway.settings import GatewaySettings, load_settings
from gateway.sitedir import SitePaths, create_directory, finish_directory, load_authority, record_site
from gateway.storage.local import LocalBlobStore
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
