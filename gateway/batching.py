"""The group: one thread that takes whatever is waiting, does it as one batch, and answers all of it at once.

A sync costs about a millisecond whether it covers one change or a hundred. So callers queue their work, and a single thread
drains the queue, runs the batch and pays for one sync. While a batch runs, the next one gathers: no timer is needed.

Rules:      1. only the batch thread runs batches, so a batch never races another  2. an answer follows the batch
            3. a cancelled caller gives up its answer, not its work  4. answers come in the order of submission
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from carnet.errors import Unavailable

Work = TypeVar("Work")

BATCH_ITEMS_MAX = 512
WAITING_ITEMS_MAX = 65_536


@dataclass(eq=False, slots=True)
class Item(Generic[Work]):
    """A piece of work in the queue; the batch function sets `result` or `error`, nobody else does."""

    work: Work
    answer: "asyncio.Future[object]"
    result: object = None
    error: BaseException | None = field(default=None)


class BatchThread(Generic[Work]):
    """Runs `process` over batches of submitted work on a thread of its own.

    `process` gets at most `items_max` items and must leave a result or an error in each; what it raises is given to every item
    that has neither. `notify` runs on the event loop after each batch, before the answers, with what `process` returned.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[Sequence[Item[Work]]], object],
        *,
        notify: Callable[[object], None] | None = None,
        items_max: int = BATCH_ITEMS_MAX,
    ) -> None:
        """Start the thread; it ends with `close`."""
        self._process = process
        self._notify = notify
        self._items_max = items_max
        self._queue: queue.SimpleQueue[Item[Work] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._start()

    def _start(self) -> None:
        """Let batches be run from now on."""
        self._thread.start()

    async def submit(self, work: Work) -> object:
        """Return the result of `work` after its batch is done; raise what it raised, or what `enqueue` raises."""
        return await self.enqueue(work)

    def enqueue(self, work: Work) -> "asyncio.Future[object]":
        """Queue `work` and return its answer to come; what raises here was never queued, so the caller still owns it.

        Raises:
            Unavailable: E-BUSY if the group is closed or too much is waiting already.
        """
        if self._closed:
            raise Unavailable("E-BUSY", "the gateway is stopping")
        if self._queue.qsize() >= WAITING_ITEMS_MAX:
            raise Unavailable("E-BUSY", f"{WAITING_ITEMS_MAX} changes are waiting for the disk")
        item = Item(work, asyncio.get_running_loop().create_future())
        self._queue.put(item)
        return item.answer

    def close(self) -> None:
        """Finish what is queued, then end the thread; blocks until then. Closing twice is no error."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            batch, last = self._gather()
            if batch:
                self._answer(batch, self._run_batch(batch))
            if last:
                return

    def _gather(self) -> tuple[list[Item[Work]], bool]:
        """Wait for one item, then take what else is there; True if the end of the queue was met."""
        batch: list[Item[Work]] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == self._items_max:
                return batch, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _run_batch(self, batch: list[Item[Work]]) -> object:
        try:
            return self._process(batch)
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits for this batch
            for item in batch:
                if item.error is None:
                    item.error = error
            return None

    def _answer(self, batch: list[Item[Work]], outcome: object) -> None:
        """Answer on the loops that ask; a loop that is closed has nobody left to tell."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Item[Work]]] = {}
        for item in batch:
            by_loop.setdefault(item.answer.get_loop(), []).append(item)
        for loop, items in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._resolve, items, outcome)
                outcome = None

    def _resolve(self, items: list[Item[Work]], outcome: object) -> None:
        if self._notify is not None and outcome is not None:
            self._notify(outcome)
        for item in items:
            if item.answer.done():
                continue
            if item.error is None:
                item.answer.set_result(item.result)
            else:
                item.answer.set_exception(item.error)
