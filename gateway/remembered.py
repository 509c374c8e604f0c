"""What peers remember of our log, against what we have: a site that was set back must not sign a second history.

A restored backup is a true but older log. Were it signed onwards, peers that saw more would find two histories under one key, and
that is what a forger's log looks like. So before anything is signed, and again whenever a peer is asked, the head that the peer
keeps of our log is looked for in ours.

Rules:      1. only a head signed by our own key counts: a peer cannot stop us with one it made up
            2. a site that was restored signs nothing before every peer on its lanes has answered
Spec:       docs/operations.md section "Backup and restore"
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from carnet.checkpoint import Checkpoint, open_checkpoint
from carnet.errors import CarnetError, IntegrityError, Unavailable
from carnet.flow.client import PeerClient
from carnet.identifiers import SiteName
from carnet.keys import VerifyingKey
from carnet.messages import TrustResponse

ANSWER_S: Final = 5.0
"""How long a start waits for the peers, all at once."""


class History(Protocol):
    """Our log, as far as it is published."""

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the newest published checkpoint and its note."""
        ...

    async def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` entries; `size` is at most the checkpoint's."""
        ...


class Remembered:
    """Compares what peers keep of our log with the log itself."""

    def __init__(self, site: SiteName, history: History, key: VerifyingKey) -> None:
        """Take the site's name, its log and the key that signs the log."""
        self._site = site
        self._history = history
        self._key = key

    async def compare(self, peer: SiteName, response: TrustResponse) -> None:
        """Return if our log has all that `peer` has seen of it.

        Raises:
            IntegrityError: E-LOG if the peer keeps a head, signed by us, that our log has not reached or does not contain.
        """
        for kept in (response.checkpoints, response.proved):
            note = kept.get(self._site)
            if note is not None:
                await self._compare(peer, note)

    async def _compare(self, peer: SiteName, note: str) -> None:
        """Return if our log has what this note of ours says; one that we did not sign says nothing."""
        own, _ = self._history.checkpoint()
        try:
            seen = open_checkpoint(note.encode("utf-8"), origin=own.origin, key=self._key)
        except CarnetError:
            return
        if seen.size > own.size:
            raise IntegrityError(
                "E-LOG",
                f"this site's log has {own.size} entries, but {peer} has seen {seen.size}: an old copy was restored",
                remedy="restore a newer backup; if there is none, make a new site under a new name and signing key",
            )
        if await self._history.root_at(seen.size) != seen.root:
            raise IntegrityError(
                "E-LOG",
                f"this site's log is not the one that {peer} has seen: at {seen.size} entries the roots differ",
                remedy="stop; an old copy was restored and signed onwards: keep both logs and tell an auditor",
            )

    async def ask_all(
        self, peers: Iterable[SiteName], client: Callable[[SiteName], PeerClient], *, insist: bool, answer_s: float = ANSWER_S
    ) -> None:
        """Ask every peer at once for the head that it keeps, and compare; with `insist` each must answer.

        Raises:
            IntegrityError: E-LOG as `compare`. Unavailable: E-UNREACHABLE naming the first peer that did not answer.
        """
        names = tuple(peers)
        answers = await asyncio.gather(*(self._ask(client(peer), answer_s) for peer in names))
        for peer, answer in zip(names, answers, strict=True):
            if answer is not None:
                await self.compare(peer, answer)
        silent = [peer for peer, answer in zip(names, answers, strict=True) if answer is None]
        if insist and silent:
            raise Unavailable(
                "E-UNREACHABLE",
                f"this site was restored and signs nothing before {', '.join(silent)} told what it has seen of its log",
                remedy=f"start {silent[0]}, then this site; docs/operations.md says what to do if it is gone for good",
            )

    async def _ask(self, client: PeerClient, answer_s: float) -> TrustResponse | None:
        """Return the peer's answer, or None if it gives none in time."""
        try:
            async with asyncio.timeout(answer_s):
                return await client.trust()
        except (CarnetError, TimeoutError):
            return None
        finally:
            await client.close()
