"""What every use case of a site is given: the ports, the site's name, and the limits its operator set.

A plain frozen bundle: it is built once in `assembly`, and nothing in it is replaced while the site runs.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from carnet.flow.client import PeerClient
from carnet.identifiers import SegmentId, SiteName, SpiffeId
from carnet.release import site_recipient
from gateway.access import Access
from gateway.courier import Courier
from gateway.policies import PolicyBook
from gateway.ports import BlobStore, Catalog, Clock, Keyring, Log
from gateway.reserve import DiskReserve
from gateway.segment_guard import SegmentGuard
from gateway.settings import CopyPlace
from gateway.trusting import Trust

_OPENINGS = 2
"""Artifacts opened at once: as many as there are cores on a small machine."""


@dataclass(frozen=True)
class Bounds:
    """What an operator may limit; names are those of the settings and of E-LIMIT errors."""

    open_transfers_max: int = 64
    """Unfinished transfers of one agent."""
    transfer_hours: int = 72
    """Hours after which an unfinished transfer expires."""
    hold_hours: int = 168
    """Hours after which a hold that nobody satisfied expires."""
    peer_open_transfers_max: int = 1_024
    """Transfers that one other site is sending at once."""
    uncommitted_bytes_max: int = 1 << 42
    """Sealed bytes that one transfer may bring in: 4 TiB."""
    unfinished_bytes_max: int = 1 << 43
    """Sealed bytes that all unfinished transfers of one identity may bring in together: 8 TiB."""
    pinned_bytes_max: int = 1 << 43
    """Bytes of segments that are here already and that one transfer of another site may keep here: 8 TiB."""
    relaying: bool = True
    """Whether this site carries for others."""
    relay_transfers_max: int = 256
    """Passages of one peer on which something moved within the last hour."""
    relay_bytes_max: int = 1 << 40
    """Sealed bytes that this site holds, or has promised to take, for one peer: 1 TiB."""
    relay_s: float = 3_600.0
    """Seconds that relays may take without anything arriving, beside the time for the bytes."""
    route_rest_s: float = 900.0
    """Seconds for which a route that failed is not used."""
    recheck_hours: int = 24
    """Hours between rounds of rechecking in which nothing changed."""
    pull_grace_hours: int = 24
    """Hours for which pulls go on after the trust bundle or a revocation set expired."""


@dataclass(frozen=True)
class Services:
    """The site as its use cases see it."""

    site: SiteName
    trust_domain: str
    catalog: Catalog
    store: BlobStore
    log: Log
    keyring: Keyring
    clock: Clock
    trust: Trust
    policies: PolicyBook
    access: Access
    peer: Callable[[SiteName], PeerClient]
    """Returns the client for another site; connections are made when first used."""
    courier: Courier
    """Returns the line to another site about a transfer, over relays or not."""
    bounds: Bounds = field(default_factory=Bounds)
    copies: tuple[CopyPlace, ...] = ()
    """Places for copies of decisions in other regions."""
    guard: SegmentGuard = field(default_factory=SegmentGuard)
    reserve: DiskReserve = field(default_factory=lambda: DiskReserve(Path(), 0))
    """Asked before something new is taken in."""
    opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_OPENINGS))
    """Held by whoever opens a whole artifact."""

    async def remove_unneeded(self, segments: Iterable[SegmentId]) -> None:
        """Delete segments that a transaction found nobody to need any more."""
        await self.guard.remove_unneeded(self.catalog, self.store, segments)

    @property
    def identity(self) -> SpiffeId:
        """The site's own identity, under which it receives keys and speaks to peers."""
        return site_recipient(self.trust_domain, self.site)
