"""What a running site renews by itself: its certificate, its KEM key, its revocation set, its view of what is trusted.

Rules:      1. each step is idempotent and does nothing before it is due  2. a step that fails is tried again at the next round
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from carnet.timestamps import format_time, parse_time
from carnet.trust import TrustBundle
from gateway.kem_ending import destroy_ended
from gateway.keyring import FileKeyring, kem_rotation_due, rotate_kem
from gateway.pki import Authority
from gateway.ports import Catalog, Clock, Log
from gateway.revoking import is_set_due, issue_set
from gateway.settings import GatewaySettings
from gateway.sitedir import SitePaths, follow_authority, renew_own_certificate
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.trusting import Trust

INTERVAL_S: Final = 5.0
"""Between rounds: so soon does a server follow what a command beside it imported."""


_DAY: Final = timedelta(days=1)
_BUNDLE_SOON: Final = timedelta(days=14)
_AUTHORITY_SOON: Final = timedelta(days=60)


@dataclass(frozen=True)
class Maintenance:
    """One round of upkeep; `assembly` runs it at start and every `INTERVAL_S`."""

    settings: GatewaySettings
    paths: SitePaths
    authority: Authority
    keyring: FileKeyring
    catalog: Catalog
    log: Log
    trust: Trust
    clock: Clock
    warned: dict[str, datetime] = field(default_factory=dict)
    """When each warning was said last."""

    async def run(self) -> None:
        """Look at everything once.

        Steps: (1) trust documents as the catalog has them now, and how late it is at least; nothing is renewed by a clock that
        cannot be right; (2) the CA's next certificate once the trust bundle names it, and a new certificate at two thirds of
        the old one's life, which the server loads by itself; (3) a new revocation set at half the old one's life; (4) a new KEM
        key, known to others once its entry is under a checkpoint; (5) KEM keys destroyed that nothing can be wrapped to any more;
        (6) what a person must renew soon is said.

        Raises:
            Held: E-CLOCK.
        """
        await self.trust.refresh()  # (1)
        self.trust.require_clock()
        await self.trust.keep_floor()
        now = self.clock.now()
        await self._follow_authority()
        await asyncio.to_thread(renew_own_certificate, self.paths, self.settings, self.authority, now)  # (2)
        if is_set_due(self.trust.revocations.own(), now):  # (3)
            key, site = self.keyring.signing, self.settings.site
            await self.catalog.write(lambda tx: issue_set(tx, key, site))
            await self.trust.refresh_revocations()
        if self.trust.current() is not None and kem_rotation_due(self.trust.newest_kem(self.settings.site, now), now):  # (4)
            issued = await rotate_kem(self.catalog, self.keyring, self.settings.site, now)
            await self.log.checkpointed(issued.log_index)
            await self.trust.refresh()
        hold = timedelta(days=self.settings.limits.kem_hold_days)
        await destroy_ended(self.catalog, self.keyring, self.settings.site, now, hold)  # (5)
        self._warn(now)  # (6)

    async def _follow_authority(self) -> None:
        bundle = self.trust.current()
        named = "" if bundle is None else bundle.site(self.settings.site).tls_ca
        if await asyncio.to_thread(follow_authority, self.paths, self.authority, named):
            get_logger().info(events.AUTHORITY_FOLLOWED, ends=format_time(self.authority.certificate.not_valid_after_utc))

    def _warn(self, now: datetime) -> None:
        """Say once a day what ends soon and needs a person: the trust bundle, the issuing CA."""
        for what, ends, remedy in ending_soon(self.trust.current(), self.authority, now):
            if self.warned.get(what, now - _DAY) <= now - _DAY:
                self.warned[what] = now
                get_logger().warning(events.EXPIRY_NEAR, what=what, ends=format_time(ends), remedy=remedy)


def ending_soon(bundle: TrustBundle | None, authority: Authority, now: datetime) -> list[tuple[str, datetime, str]]:
    """Return what ends soon, or has ended, and only a person can renew: what, when, and how."""
    found = []
    if bundle is not None and parse_time(bundle.expires) <= now + _BUNDLE_SOON:
        remedy = "have the roots sign the next one (`carnet-gateway trust propose --from`), and import it at each site"
        found.append((f"trust bundle {bundle.version}", parse_time(bundle.expires), remedy))
    if authority.certificate.not_valid_after_utc <= now + _AUTHORITY_SOON:
        remedy = "run `carnet-gateway site renew-ca DIR`, and have the roots sign a bundle with the new site card"
        found.append(("issuing CA", authority.certificate.not_valid_after_utc, remedy))
    return found
