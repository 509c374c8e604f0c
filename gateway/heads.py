"""Keeps one history of each peer's log: every checkpoint a peer shows must extend, or be extended by, the one kept here.

A proof alone shows that an entry is in some tree that the peer signed. It could sign another tree for each of us; so the first
head seen is kept, and what comes later is compared by a consistency proof built from the peer's own tiles. Who cannot give one
has two histories, and nothing it proves is used (P5).

Steps of `check`: (1) the checkpoint is signed; (2) none kept: keep it; (3) same size: same root; (4) else read the tiles of the
larger tree from the peer and verify that the smaller is its beginning; (5) keep the larger.
"""

import asyncio

from carnet.checkpoint import Checkpoint, log_origin, open_checkpoint
from carnet.encoding import decode_base64
from carnet.entries import parse_entry
from carnet.errors import CarnetError, IntegrityError, NotFound, Unavailable
from carnet.flow.client import PeerClient
from carnet.identifiers import SiteName
from carnet.merkle import HASH_BYTES, prove_consistency, verify_consistency
from carnet.proof import EntryProof
from carnet.tiles import Tile, read_nodes
from carnet.timestamps import parse_time
from carnet.trust import TrustBundle
from gateway.passages.far_logs import far_log_file
from gateway.ports import Transaction
from gateway.services import Services


class Heads:
    """The largest verified head of each peer, kept in the catalog."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def check(self, bundle: TrustBundle, site: SiteName, proof: EntryProof) -> None:
        """Return if the proof's checkpoint is of the one history that `site` has shown so far.

        Raises:
            IntegrityError: E-PROOF for two histories; E-SIGNATURE. Unavailable: the peer's tiles cannot be read now.
        """
        await self._follow(bundle, site, proof)
        at = parse_time(parse_entry(decode_base64(proof.entry)).at)
        self._services.trust.floor.witness(at, self._services.clock.now())

    async def _follow(self, bundle: TrustBundle, site: SiteName, proof: EntryProof) -> None:
        """Steps (1) to (5); raises as `check`."""
        key, origin = bundle.site(site).signing_key, log_origin(bundle.trust_domain, site)
        note = proof.checkpoint.encode("utf-8")
        shown = open_checkpoint(note, origin=origin, key=key)  # (1)
        body = await self._services.catalog.read(lambda tx: tx.site_document(_name(site)))
        if body is not None:
            kept = open_checkpoint(body, origin=origin, key=key)
            if kept == shown:
                return
            await self._compare(site, *sorted((kept, shown), key=lambda one: one.size))
            if shown.size <= kept.size:
                return
        await self._services.catalog.write(lambda tx: _keep(tx, site, shown, note, origin))  # (2), (5)

    async def _compare(self, site: SiteName, old: Checkpoint, new: Checkpoint) -> None:
        """Steps (3) and (4)."""
        split = IntegrityError(
            "E-PROOF",
            f"the log of {site} has two histories: {old.size} entries with root {old.root.hex()[:16]}, "
            f"{new.size} with {new.root.hex()[:16]}",
            remedy=f"use nothing of {site} until its operator explains it; both checkpoints are kept",
        )
        if old.size == new.size:
            if old.root != new.root:
                raise split
            return
        if old.size == 0:
            return
        loop, client = asyncio.get_running_loop(), self._services.peer(site)

        def read(tile: Tile) -> bytes:
            return asyncio.run_coroutine_threadsafe(self._read_tile(client, site, tile), loop).result()

        def verify() -> None:
            hashes = prove_consistency(old.size, new.size, read_nodes(new.size, read))
            verify_consistency(old.size, old.root, new.size, new.root, hashes)

        try:
            await asyncio.to_thread(verify)
        except Unavailable:
            raise
        except NotFound as error:
            raise Unavailable("E-UNREACHABLE", f"the log of {site} does not serve its tiles: {error.problem}") from None
        except (CarnetError, ValueError):
            raise split from None

    async def _read_tile(self, client: PeerClient, site: SiteName, tile: Tile) -> bytes:
        """Return a tile of the peer's log; a partial one may have been replaced by the full one, whose beginning it is."""
        try:
            return await far_log_file(self._services, client, site, tile.path())
        except NotFound:
            if not tile.is_partial:
                raise
        return (await far_log_file(self._services, client, site, tile.full().path()))[: tile.width * HASH_BYTES]


def _name(site: SiteName) -> str:
    return f"head/{site}"


def _keep(tx: Transaction, site: SiteName, shown: Checkpoint, note: bytes, origin: str) -> None:
    """Keep the head unless a larger one was kept meanwhile; that one was compared with the same history."""
    body = tx.site_document(_name(site))
    if body is None or _size_of(body, origin) < shown.size:
        tx.put_site_document(_name(site), note)


def _size_of(note: bytes, origin: str) -> int:
    """Read the size of a head kept here, whose signature was verified when it was."""
    lines = note.decode("utf-8").split("\n")
    if lines[0] != origin:
        raise IntegrityError("E-PROOF", f"the kept head is not of {origin}")
    return int(lines[1])
