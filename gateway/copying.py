"""Log copies: what policy wants kept of a decision in another region, written there and checked off.

What is to be copied is put down in the transaction that records the decision, so a crash forgets none; a job for each region and
mode writes it once the decision is under a checkpoint, a file each. How long the oldest waits is all that is known of a place:
while that is too long, what asks for another copy in the region is held (`gateway.obliging`).

Rules:      1. a full copy has the signed decision, what policy was asked, and the proof; one of hashes has the proof alone, whose
               openings are two digests  2. a copy that is there is never changed, only written again the same
            3. each region for itself, and within it each copy: what cannot be written keeps nothing else waiting
            4. one turn at a time in a directory: it ends when the storage fails, and begins no copy after `TURN_S`; what failed
               comes last in the next
Layout:     <directory>/<site>/<index of the log entry, 12 digits>-<full|hash>.json; site documents: what is to be written in
            log-copy/<region>-<mode>/<time>/<index>, what it says in log-copy-of/<region>-<mode>/<index>
Spec:       docs/policy.md section "Obligations"; DESIGN section 9
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from carnet.decision import Obligation
from carnet.encoding import JsonValue, canonical, parse_object
from carnet.errors import CallerError, CarnetError
from carnet.limits import STATEMENT_BYTES_MAX
from carnet.policy import Facts
from carnet.policy.obligations import LOG_COPY, LogCopy, read_obligation
from carnet.timestamps import format_time
from gateway import documents
from gateway.obliging import DUE, Means, due_name, waits_since
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services
from gateway.settings import CopyPlace
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

KIND: Final = "copy-log"
TURN_S: Final = 60.0
_OF: Final = "log-copy-of/"
_TO: Final = "log-copy-to/"
_BYTES_MAX: Final = 8 * STATEMENT_BYTES_MAX
_A_ROUND: Final = 100
_BUSY_S: Final = 5.0
_COUNTED_MAX: Final = 1_000

Put = Callable[[CopyPlace, str, str, bytes], Awaitable[None]]
"""Makes bytes durable at a place, in the directory of a site, under a name."""


def queue_copies(
    tx: Transaction,
    means: Means,
    asked: Iterable[Obligation],
    facts: Facts,
    *,
    index: int,
    decision: bytes,
    inputs: bytes,
) -> None:
    """Put down the copies of a decision that is in the log at `index`, and queue the jobs that write them.

    `decision` is its envelope, `inputs` what policy was asked.
    """
    read = [read_obligation(one) for one in asked if one.kind == LOG_COPY]
    wanted = {_kind(one): one for one in read if isinstance(one, LogCopy) and not means.keeps_itself(one, facts)}
    for kind, one in sorted(wanted.items()):
        said: dict[str, JsonValue] = {"index": index, "region": one.region, "mode": one.mode}
        if one.mode == "full":
            said["decision"] = documents.envelope_json(decision)
            said["inputs"] = parse_object(inputs, bytes_max=_BYTES_MAX)
        tx.put_site_document(f"{_OF}{kind}/{index:012d}", canonical(said))
        tx.put_site_document(f"{due_name(one)}{format_time(tx.now)}/{index:012d}", b"due")
        tx.put_site_document(_TO + kind, one.encode())
        tx.queue_job(KIND, kind)


@dataclass(frozen=True)
class _Copy:
    """A copy that is to be written, where it goes, and the name of the document that says it is due."""

    asked: LogCopy
    place: CopyPlace
    due: str

    @property
    def since(self) -> str:
        """Since when it waits, and its number."""
        return self.due.removeprefix(due_name(self.asked))

    @property
    def number(self) -> str:
        """The index of the log entry, 12 digits."""
        return self.due.rpartition("/")[2]

    @property
    def kept(self) -> str:
        """The name of the document that has what it says."""
        return f"{_OF}{_kind(self.asked)}/{self.number}"


class _StorageFailed(Exception):
    """The storage did not take a copy; `error` says why."""

    def __init__(self, error: CarnetError) -> None:
        super().__init__(str(error))
        self.error = error


class LogCopies:
    """Handles `copy-log` jobs, one for each region and mode: writes what is put down, at each place the oldest first."""

    def __init__(self, services: Services, put: Put, *, turn_s: float = TURN_S) -> None:
        """Use the site's services; `put` writes; a turn begins no copy after `turn_s`."""
        self._services = services
        self._put = put
        self._turn_s = turn_s
        self._busy: set[Path] = set()
        self._failed: set[str] = set()
        """What the storage did not take, by the names of what says that it is due."""

    async def run(self, job: JobRecord) -> None:
        """Take a turn where the copies of the job's kind go, with a round of all that goes there.

        Raises:
            CallerError: E-CONFIG: there is no place for them.
            CarnetError: the storage failed, or a copy could not be made.
        """
        due = await self._services.catalog.read(_due)
        asked, names = due.get(job.key, (None, []))
        if asked is None or not names:
            return
        directory = self._place(asked).directory
        if directory in self._busy:
            await self._queue(job, delay_s=_BUSY_S)
            return
        self._busy.add(directory)
        try:
            is_more = await self._turn(self._going_to(directory, due))
        finally:
            self._busy.discard(directory)
        if is_more:
            await self._queue(job)

    async def _queue(self, job: JobRecord, *, delay_s: float = 0.0) -> None:
        await self._services.catalog.write(lambda tx: tx.queue_job(KIND, job.key, delay_s=delay_s))

    def _going_to(self, directory: Path, due: Mapping[str, tuple[LogCopy, Sequence[str]]]) -> list[_Copy]:
        """Return the copies that go to a directory, the oldest first, after all others what the storage did not take before."""
        found = [
            _Copy(asked, place, name)
            for asked, names in due.values()
            if (place := self._find_place(asked)) is not None and place.directory == directory
            for name in names
        ]
        return sorted(found, key=lambda copy: (copy.due in self._failed, copy.since))

    async def _turn(self, copies: Sequence[_Copy]) -> bool:
        """Write the copies until the storage fails or the time is over; tell whether to go on at once, or raise an error."""
        loop, problems, tried = asyncio.get_running_loop(), list[CarnetError](), 0
        ends = loop.time() + self._turn_s
        for copy in copies:
            if tried and loop.time() >= ends:
                break
            tried += 1
            try:
                await self._write(copy)
            except _StorageFailed as failure:
                get_logger().warning(events.COPY_FAILED, copy=copy.due, error=str(failure.error))
                raise failure.error from None
            except CarnetError as error:
                get_logger().warning(events.COPY_FAILED, copy=copy.due, error=str(error))
                problems.append(error)
        is_more = (tried < len(copies) or len(copies) >= _A_ROUND) and len(problems) < tried
        if problems and not is_more:
            raise problems[0]
        return is_more

    async def _write(self, copy: _Copy) -> None:
        """Write one copy and check it off."""
        data = await self._made(copy)
        if data is not None:
            try:
                await self._put(copy.place, self._services.site, f"{copy.number}-{copy.asked.mode}.json", data)
            except CarnetError as error:
                self._failed.add(copy.due)
                raise _StorageFailed(error) from error

        def check_off(tx: Transaction) -> None:
            tx.delete_site_document(copy.due)
            tx.delete_site_document(copy.kept)

        await self._services.catalog.write(check_off)
        self._failed.discard(copy.due)

    async def _made(self, copy: _Copy) -> bytes | None:
        """Return what the copy says, with the proof, or None if it was written meanwhile; waits for the checkpoint."""
        services = self._services
        body = await services.catalog.read(lambda tx: tx.site_document(copy.kept))
        if body is None:
            return None
        told = parse_object(body, bytes_max=_BYTES_MAX)
        proof = await services.log.prove(int(copy.number), ("transfer", "decision"))
        said: dict[str, JsonValue] = {
            "site": services.site,
            "region": copy.place.region,
            "mode": copy.asked.mode,
            "proof": proof.to_json(),
            **{key: told[key] for key in ("decision", "inputs") if key in told},
        }
        return canonical(said)

    def _find_place(self, asked: LogCopy) -> CopyPlace | None:
        """Return where such copies go, as the site is set up now."""
        services = self._services
        now = services.trust.floor.judged(services.clock.now())
        bundle, groups = services.trust.state().current, services.policies.policy.groups
        return Means(services.site, bundle, services.copies, groups, now).place(asked)

    def _place(self, asked: LogCopy) -> CopyPlace:
        """Return that; raise `CallerError` E-CONFIG if it is nowhere."""
        place = self._find_place(asked)
        if place is None:
            raise CallerError(
                "E-CONFIG", f"no place for copies in {asked.region}", remedy="name one in gateway.toml, under [[copies]]"
            )
        return place


def _due(tx: Transaction) -> dict[str, tuple[LogCopy, list[str]]]:
    """Return a round of what is due of each kind: what policy asked for, and the names of what says so."""
    kinds = [LogCopy.model_validate_json(body) for body in tx.site_documents(_TO).values()]
    return {_kind(asked): (asked, list(tx.site_documents(due_name(asked), limit=_A_ROUND))) for asked in kinds}


def copies_due(tx: Transaction) -> tuple[int, str | None]:
    """Return how many copies are not written yet, of at most 1 000, and since when the oldest waits."""
    kinds = [LogCopy.model_validate_json(body) for body in tx.site_documents(_TO).values()]
    oldest = [since for one in kinds if (since := waits_since(tx, one)) is not None]
    return len(tx.site_documents(DUE, limit=_COUNTED_MAX)), min(oldest, default=None)


def _kind(asked: LogCopy) -> str:
    return f"{asked.region}-{asked.mode}"
