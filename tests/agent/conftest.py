"""A real site that enrols over real TLS on loopback, in this process."""

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from carnet.identifiers import AgentName
from carnet.invite import Invite
from carnet.keys import SigningKey
from gateway.clock import SystemClock
from gateway.enrolment import Enrolment, InviteOrder, make_invite
from gateway.http.server import ServerSettings, serve
from gateway.offline import OfflineSite, create_site, open_site
from gateway.proposals import Change, propose, read_card, unsigned
from gateway.settings import make_settings
from gateway.sitedir import first_policy


class AtOnce:
    """Says that every entry is under a checkpoint: this site publishes no log."""

    async def checkpointed(self, index: int) -> None:
        del index


@dataclass
class LiveSite:
    """A site that listens; `url` is where."""

    site: OfflineSite
    root: SigningKey
    url: str
    enrolment: Enrolment

    async def invite(self, name: str = "ci", url: str | None = None) -> Invite:
        order = InviteOrder(name=AgentName(name), grants=("push:*@*",), url=url or self.url)
        site = self.site
        return await make_invite(site.catalog, site.facts, site.authority().fingerprint, site.trust, order)

    async def import_next(self) -> bytes:
        """Import and return a newer bundle."""
        current = self.site.trust.state().current
        data = unsigned(propose(current, Change(), self.site.clock.now())).with_signature(self.root).encode()
        await self.site.trust.import_bundle(data)
        return data


@asynccontextmanager
async def live_site(directory, name="us"):
    given = {"site": name, "jurisdiction": "US", "operator": "Example Corp", "trust_domain": "example.com"}
    settings = make_settings({**given, "url": "https://localhost:1", "hosts": ("127.0.0.1",)})
    clock = SystemClock()
    await create_site(directory, settings, first_policy(), clock.now())
    async with open_site(directory) as site:
        root = SigningKey(secrets.token_bytes(32))
        change = Change(roots=(root.public,), threshold=1, cards=(read_card(site.paths.card),))
        await site.trust.import_bundle(unsigned(propose(None, change, clock.now())).with_signature(root).encode())
        enrolment = Enrolment(
            catalog=site.catalog,
            log=AtOnce(),
            keyring=site.keyring(),
            authority=site.authority(),
            trust=site.trust,
            facts=site.facts,
            clock=clock,
        )
        server = ServerSettings(
            site=settings.site,
            trust_domain=settings.trust_domain,
            addresses=[("127.0.0.1", 0)],
            certificate=site.paths.tls_certificate,
            key=site.paths.tls_key,
            own_ca=site.paths.authority_certificate,
            clock=clock,
        )
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        gateway = SimpleNamespace(enrolment=enrolment, trust=site.trust)
        serving = asyncio.create_task(serve(gateway, server, ready=port.set_result, stop=stop))
        try:
            await asyncio.wait([port, serving], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            yield LiveSite(site, root, f"https://localhost:{port.result()}", enrolment)
        finally:
            stop.set()
            await serving


@pytest.fixture
async def live(tmp_path):
    async with live_site(tmp_path / "us") as site:
        yield site
