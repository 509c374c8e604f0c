"""Keeps in touch with the other sites on our lanes: their KEM statements and log heads, and a client for each.

A sealer needs the destination's KEM key before it can push, so a site asks every peer of its lanes at start, soon again while one
is unknown, and seldom afterwards. What a peer says is used only as far as it verifies.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from carnet.errors import CarnetError
from carnet.flow.client import PeerClient
from carnet.identifiers import SiteName
from carnet.messages import TrustResponse
from carnet.trust import Site, TrustBundle
from gateway.ports import Clock
from gateway.remembered import Remembered
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.trusting import Trust

_SOON_S: Final = 1.0
_LATER_S: Final = 300.0
_CLIENTS_MAX: Final = 256


@dataclass(frozen=True)
class _Known:
    """A client and the bundle's entry that it was made for."""

    site: Site
    client: PeerClient


class Peers:
    """Clients by site, made anew when the trust bundle changes an address or a CA."""

    def __init__(
        self,
        trust: Trust,
        site: SiteName,
        clock: Clock,
        make_client: Callable[[Site], PeerClient],
        remembered: Remembered,
    ) -> None:
        """`make_client` builds a client for a site of the trust bundle; `remembered` is asked about every answer."""
        self._trust = trust
        self._site = site
        self._clock = clock
        self._make_client = make_client
        self._remembered = remembered
        self._clients: dict[SiteName, _Known] = {}
        self._outdated: list[PeerClient] = []
        self._silent: set[SiteName] = set()
        """Sites that did not answer when they were asked last: what they saw of our log is not known."""

    def client(self, site: SiteName) -> PeerClient:
        """Return the client for `site`; raise `NotFound` E-SITE-UNKNOWN if the trust bundle does not name it."""
        entry = self._trust.state().fresh(self._clock.now()).site(site)
        known = self._clients.get(site)
        if known is None or known.site != entry:
            if known is not None:
                self._outdated.append(known.client)
            known = self._clients[site] = _Known(entry, self._make_client(entry))
        return known.client

    async def run(self) -> None:
        """Ask every peer for what it states, until cancelled.

        Raises:
            IntegrityError: E-LOG if a peer has seen more of our log than there is; the site must stop.
        """
        asked: dict[SiteName, float] = {}
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = [site for site in self.on_our_lanes() if loop.time() >= asked.get(site, -_LATER_S) + self._interval_s(site)]
                await asyncio.gather(*(self._ask(site) for site in due))
                asked.update({site: loop.time() for site in due})
                await asyncio.sleep(_SOON_S)
        finally:
            await self._close()

    def on_our_lanes(self) -> list[SiteName]:
        """Return the other sites of all lanes that touch this one."""
        bundle: TrustBundle | None = self._trust.current()
        if bundle is None:
            return []
        lanes = [lane for lane in bundle.lanes if self._site in lane.sites]
        return sorted({site for lane in lanes for site in lane.sites} - {self._site})[:_CLIENTS_MAX]

    def _interval_s(self, site: SiteName) -> float:
        """Return how long after it was asked a peer is asked again: soon while it is silent, or no KEM key of it may be used.

        A relay also knows the sites behind it, which may be out of reach: it is asked soon while one of them is not known.
        """
        wanted = {site} | (set(self.on_our_lanes()) if site in self._relays() else set())
        now, sets = self._clock.now(), self._trust.revocations.state.sets
        is_known = all(self._trust.newest_kem(one, now) is not None and (one == site or one in sets) for one in wanted)
        return _LATER_S if is_known and site not in self._silent else _SOON_S

    def _relays(self) -> set[SiteName]:
        """Return the relays of our lanes."""
        bundle = self._trust.current()
        lanes = [] if bundle is None else [lane for lane in bundle.lanes if self._site in lane.sites]
        return {relay for lane in lanes for relay in lane.relays}

    async def _ask(self, site: SiteName) -> None:
        """Learn from one peer. A peer that is away is asked again."""
        answer: TrustResponse | None = None
        try:
            async with asyncio.timeout(10):
                answer = await self.client(site).trust()
                self._silent.discard(site)
                await self._trust.learn(answer)
        except (CarnetError, OSError) as error:
            get_logger().debug(events.PEER_UNREACHABLE, peer=site, error=str(error))
            if answer is None:
                self._silent.add(site)
        if answer is not None:
            await self._remembered.compare(site, answer)

    async def _close(self) -> None:
        for known in self._clients.values():
            await known.client.close()
        for client in self._outdated:
            await client.close()
