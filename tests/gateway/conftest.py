"""A whole site in a directory, made as operators make it; and a clock that stands still until it is moved."""

import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carnet.keys import SigningKey
from gateway.catalog.engine import SqliteCatalog
from gateway.enrolment import Enrolment, SiteFacts
from gateway.keyring import FileKeyring
from gateway.offline import create_site, row_seal
from gateway.pki import Authority
from gateway.proposals import Change, propose, read_card, unsigned
from gateway.settings import GatewaySettings, make_settings
from gateway.sitedir import SitePaths, first_policy, load_authority
from gateway.trusting import Trust


class MovedClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **by: float) -> None:
        self.moment += timedelta(**by)


@dataclass
class SeenLog:
    """Says that every entry is under a checkpoint, and remembers which were asked about."""

    asked: list[int] = field(default_factory=list)

    async def checkpointed(self, index: int) -> None:
        self.asked.append(index)


@dataclass
class World:
    """One site with everything that enrolment needs."""

    paths: SitePaths
    settings: GatewaySettings
    clock: MovedClock
    catalog: SqliteCatalog
    keyring: FileKeyring
    authority: Authority
    root: SigningKey
    trust: Trust
    log: SeenLog
    facts: SiteFacts
    enrolment: Enrolment

    def bundle(self, change: Change | None = None, *, current=None, root: SigningKey | None = None) -> bytes:
        """A signed bundle that names this site."""
        root = root or self.root
        change = change or Change(roots=(root.public,), threshold=1, cards=(read_card(self.paths.card),))
        return unsigned(propose(current, change, self.clock.now())).with_signature(root).encode()


def settings_for(site: str = "us", **more) -> GatewaySettings:
    given = {
        "site": site,
        "jurisdiction": "US",
        "operator": "Example Corp",
        "trust_domain": "example.com",
        "url": "https://localhost:8443",
        "hosts": ("127.0.0.1",),
    }
    return make_settings({**given, **more})


@asynccontextmanager
async def open_world(directory: Path, *, imported: bool = True):
    clock = MovedClock()
    settings = settings_for()
    await create_site(directory, settings, first_policy(), clock.now())
    paths = SitePaths(directory)
    catalog = SqliteCatalog(paths.catalog, clock=clock, seal=row_seal(paths), readers=1)
    try:
        keyring, authority, log = FileKeyring.load(paths.keys), load_authority(paths), SeenLog()
        trust = Trust(catalog, None, clock, settings.site)
        facts = SiteFacts(settings.trust_domain, settings.site, settings.operator)
        enrolment = Enrolment(
            catalog=catalog, log=log, keyring=keyring, authority=authority, trust=trust, facts=facts, clock=clock
        )
        root = SigningKey(secrets.token_bytes(32))
        world = World(paths, settings, clock, catalog, keyring, authority, root, trust, log, facts, enrolment)
        if imported:
            await trust.import_bundle(world.bundle())
        yield world
    finally:
        catalog.close()


@pytest.fixture
async def world(tmp_path):
    async with open_world(tmp_path / "us") as made:
        yield made


@pytest.fixture
async def new_world(tmp_path):
    """A site before its first bundle."""
    async with open_world(tmp_path / "us", imported=False) as made:
        yield made


@pytest.fixture
def clock():
    return MovedClock()
