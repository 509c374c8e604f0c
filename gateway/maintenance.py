"""What a running site renews by itself: its certificate, its KEM key, its revocation set, its view of what is trusted.

Rules:      1. each step is idempotent and does nothing before it is due  2. a step that fails is tried again at the next round
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.kem_ending import destroy_ended
from gateway.keyring import FileKeyring, kem_rotation_due, rotate_kem
from gateway.pki import Authority
from gateway.ports import Catalog, Clock, Log
from gateway.revoking import is_set_due, issue_set
from gateway.settings import GatewaySettings
from gateway.sitedir import SitePaths, renew_own_certificate
from gateway.trusting import Trust

INTERVAL_S: Final = 5.0
"""Between rounds: so soon does a server follow what a command beside it imported."""


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

    async def run(self) -> None:
        """Look at everything once.

        Steps: (1) trust documents as the catalog has them now; (2) a new certificate at two thirds of the old one's life, which
        the server loads by itself; (3) a new revocation set at half the old one's life; (4) a new KEM key, known to others once
        its entry is under a checkpoint; (5) KEM keys destroyed that nothing can be wrapped to any more.
        """
        await self.trust.refresh()  # (1)
        now = self.clock.now()
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
