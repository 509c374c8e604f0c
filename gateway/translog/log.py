"""The transparency log as the use cases see it: wait for a checkpoint, prove an entry, show the head.

It runs the sequencer in one task, woken by commits that appended. While one checkpoint is published the next batch gathers, so a
lone entry waits for a few syncs and a thousand share one. What a command appends beside the server is heard by nobody here: the
catalog is looked at now and then.

Rules:      1. an index that `checkpointed` returned for is under a checkpoint that everyone can fetch  2. a proof names that or a
            later checkpoint, never one that is not published
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from carnet.checkpoint import Checkpoint
from carnet.entries import CommittedEntry
from carnet.errors import InternalError, Unavailable
from carnet.keys import SigningKey
from carnet.merkle import prove_inclusion, tree_root
from carnet.proof import EntryProof
from carnet.tiles import read_nodes
from gateway.catalog.engine import SqliteCatalog
from gateway.catalog.log_rows import SignedHead
from gateway.catalog.session import Committed
from gateway.storage.disk import SYSTEM_DISK, Disk
from gateway.storage.durable import Step, no_step
from gateway.translog.files import LogFiles
from gateway.translog.sequencer import Sequencer

_LOOK_S: Final = 2.0


class TransparencyLog:
    """Implements `Log`. `start` once, then `run` in a task of its own for as long as the site lives."""

    def __init__(
        self,
        catalog: SqliteCatalog,
        directory: Path,
        *,
        origin: str,
        key: SigningKey,
        step: Step = no_step,
        disk: Disk = SYSTEM_DISK,
    ) -> None:
        """Take the catalog that holds the entries and the directory that is served as the log."""
        self._catalog = catalog
        self._files = LogFiles(directory, step=step, disk=disk)
        self._sequencer = Sequencer(catalog, self._files, origin=origin, key=key, step=step)
        self._origin = origin
        self._appended = asyncio.Event()
        self._published = asyncio.Event()

    @property
    def origin(self) -> str:
        """The log's origin line."""
        return self._origin

    @property
    def directory(self) -> Path:
        """The directory whose `checkpoint` and `tile/` are served as they are."""
        return self._files.directory

    async def start(self) -> None:
        """Create the log, or finish what a crash interrupted; see `Sequencer.start`."""
        await self._sequencer.start()
        self._announce()

    async def run(self) -> None:
        """Sequence until cancelled; what is interrupted is finished by the next `start`.

        Raises:
            IntegrityError: E-LOG; the site must stop.
            SyncFailure: the process must end.
        """
        unsubscribe = self._catalog.subscribe(self._hear)
        try:
            while True:
                self._appended.clear()
                await self._drain()
                await self._wait_for_more()
        finally:
            unsubscribe()

    async def checkpointed(self, index: int) -> None:
        """Return when the entry is under a durable, published checkpoint. Safe to cancel."""
        while self._sequencer.head.size <= index:
            await self._published.wait()

    async def settled(self) -> None:
        """Return when every entry that is in the catalog now is under a published checkpoint. Safe to cancel."""
        size = await self._catalog.read(lambda catalog: catalog.log_size())
        if await self._is_behind():
            self._appended.set()
        if size:
            await self.checkpointed(size - 1)

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the newest published checkpoint and its signed note."""
        head = self._sequencer.head
        return Checkpoint(self._origin, head.size, head.root), head.note

    async def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` entries, from the published tiles; `size` is at most the checkpoint's."""
        head = self._sequencer.head
        return await asyncio.to_thread(lambda: tree_root(size, read_nodes(head.size, self._files.tile)))

    async def prove(self, index: int, fields: Sequence[str]) -> EntryProof:
        """Return entry, inclusion proof, checkpoint and the openings of `fields`; waits for the checkpoint.

        Raises:
            InternalError: E-INTERNAL if the entry has no opening of one of `fields` (any more).
        """
        await self.checkpointed(index)
        entry = await self._catalog.read(lambda catalog: catalog.log_entry(index))
        if entry is None:
            raise InternalError("E-INTERNAL", f"log entry {index} is not in the catalog")
        lost = [name for name in fields if name not in entry.openings]
        if lost:
            raise InternalError("E-INTERNAL", f"log entry {index} has no opening of {', '.join(lost)}")
        return await asyncio.to_thread(self._prove, index, entry, self._sequencer.head, fields)

    def _prove(self, index: int, entry: CommittedEntry, head: SignedHead, fields: Sequence[str]) -> EntryProof:
        hashes = prove_inclusion(index, head.size, read_nodes(head.size, self._files.tile))
        return EntryProof.make(entry, index, hashes, head.note.encode(), show=fields)

    async def _drain(self) -> None:
        """Sequence until nothing waits; a full disk is waited out, since nothing is promised before it has room."""
        while True:
            try:
                if not await self._sequencer.sequence():
                    return
            except Unavailable as error:
                await asyncio.sleep(error.retry_after_s)
            else:
                self._announce()

    async def _wait_for_more(self) -> None:
        """Return when there is an entry that no checkpoint covers, as far as it can be known without looking all the time."""
        while not self._appended.is_set():
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._appended.wait()
            except TimeoutError:
                if await self._is_behind():
                    return

    async def _is_behind(self) -> bool:
        """Tell whether the catalog has entries that are ours to cover. Where it has another head, another server is at work.

        A catalog that is busy is looked at again later.
        """
        ours = self._sequencer.head
        try:
            size, head = await self._catalog.read(lambda catalog: (catalog.log_size(), catalog.log_head()))
        except Unavailable:
            return False
        return head == ours and size > ours.size

    def _announce(self) -> None:
        """Wake everyone who waits for a checkpoint; they look at the new head."""
        published, self._published = self._published, asyncio.Event()
        published.set()

    def _hear(self, committed: Committed) -> None:
        if committed.log_size is not None:
            self._appended.set()
