"""Watches over revocation: this site's catalog every second, each peer's set every two.

A command beside the server writes to the catalog; peers answer with their set only if it is newer than the one known here, so a
round costs a few hundred bytes. A revocation acts within five seconds here and at every peer that can be reached.

Rules:      1. one question at a time to a peer  2. a peer that does not answer holds up no other
            3. what does not verify changes nothing and is logged
Source:     SECURITY 7.3; T7
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from carnet.errors import CarnetError
from carnet.flow.client import PeerClient
from carnet.identifiers import SiteName
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.trusting import Trust

_OWN_S: Final = 1.0
_PEERS_S: Final = 2.0
_ANSWER_S: Final = 10.0


class RevocationWatch:
    """`run` in a task, until cancelled."""

    def __init__(self, trust: Trust, peers: Callable[[], Sequence[SiteName]], client: Callable[[SiteName], PeerClient]) -> None:
        """`peers` names the sites of our lanes, `client` reaches one."""
        self._trust = trust
        self._peers = peers
        self._client = client
        self._asking: set[SiteName] = set()
        self.heard = asyncio.Event()
        """Set once a peer answered, or when there is none to ask: from then on a clock that is wrong shows."""

    async def run(self) -> None:
        """Look and ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(_OWN_S, self._trust.refresh_revocations))
            while True:
                if not self._peers():
                    self.heard.set()
                for site in self._peers():
                    if site not in self._asking:
                        self._asking.add(site)
                        group.create_task(self._ask(site))
                await asyncio.sleep(_PEERS_S)

    async def _ask(self, site: SiteName) -> None:
        """Learn one peer's set and clock."""
        known = self._trust.revocations.state.newest(site)
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await self._client(site).revocations(0 if known is None else known.number)
            await self._trust.learn_revocations(site, answer)
            self.heard.set()
        except (CarnetError, OSError) as error:
            get_logger().debug(events.PEER_UNREACHABLE, peer=site, error=str(error))
        finally:
            self._asking.discard(site)


async def _every(interval_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work at intervals; what fails is logged and tried again."""
    while True:
        try:
            await work()
        except (CarnetError, OSError) as error:
            get_logger().warning(events.UPKEEP_FAILED, error=str(error))
        await asyncio.sleep(interval_s)
