"""Log copies: what policy wants kept of a decision in another region, written there and checked off.

What is to be copied is put down in the transaction that records the decision, so a crash forgets none; a job writes it once the
decision is under a checkpoint, a file each. How long the oldest waits is all that is known of a place: while that is too long,
what asks for another copy in the region is held (`gateway.obliging`).

Rules:      1. a full copy has the signed decision, what policy was asked, and the proof; one of hashes has the proof alone, whose
               openings are two digests  2. a copy that is there is never changed, only written again the same
            3. each region for itself, and within it each copy: what cannot be written keeps nothing else waiting
Layout:     <directory>/<site>/<index of the log entry, 12 digits>-<full|hash>.json; site documents: what is to be written in
            log-copy/<region>-<mode>/<time>/<index>, what it says in log-copy-of/<region>-<mode>/<index>
Spec:       docs/policy.md section "Obligations"; DESIGN section 9
"""

from collections.abc import Awaitable, Callable, Iterable
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
_ALL: Final = "all"
_OF: Final = "log-copy-of/"
_TO: Final = "log-copy-to/"
_BYTES_MAX: Final = 8 * STATEMENT_BYTES_MAX
_A_ROUND: Final = 100
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
    """Put down the copies of a decision that is in the log at `index`, and queue the job that writes them.

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
    if wanted:
        tx.queue_job(KIND, _ALL)


class LogCopies:
    """Handles `copy-log` jobs: writes what is put down, in each region the oldest first."""

    def __init__(self, services: Services, put: Put) -> None:
        """Use the site's services; `put` writes."""
        self._services = services
        self._put = put

    async def run(self, _job: JobRecord) -> None:
        """Write what is due, a round of it in each region; raise the first error there was, once all others were tried."""
        services, failed, more = self._services, list[CarnetError](), False
        kinds = await services.catalog.read(lambda tx: list(tx.site_documents(_TO).values()))
        for body in kinds:
            asked = LogCopy.model_validate_json(body)
            due = await self._due(due_name(asked))
            problems = [error for name in due if (error := await self._try(asked, name)) is not None]
            failed += problems
            more = more or (len(due) == _A_ROUND and len(problems) < len(due))
        if more:
            await services.catalog.write(lambda tx: tx.queue_job(KIND, _ALL))
        elif failed:
            raise failed[0]

    async def _due(self, prefix: str) -> list[str]:
        return await self._services.catalog.read(lambda tx: list(tx.site_documents(prefix, limit=_A_ROUND)))

    async def _try(self, asked: LogCopy, name: str) -> CarnetError | None:
        """Write one copy and check it off; return what kept it from that."""
        try:
            await self._copy(asked, name)
        except CarnetError as error:
            get_logger().warning(events.COPY_FAILED, copy=name, error=str(error))
            return error
        return None

    async def _copy(self, asked: LogCopy, due: str) -> None:
        services, place = self._services, self._place(asked)
        number = due.rpartition("/")[2]
        kept = f"{_OF}{_kind(asked)}/{number}"
        body = await services.catalog.read(lambda tx: tx.site_document(kept))
        if body is not None:
            told = parse_object(body, bytes_max=_BYTES_MAX)
            proof = await services.log.prove(int(number), ("transfer", "decision"))
            said: dict[str, JsonValue] = {
                "site": services.site,
                "region": place.region,
                "mode": asked.mode,
                "proof": proof.to_json(),
                **{key: told[key] for key in ("decision", "inputs") if key in told},
            }
            await self._put(place, services.site, f"{number}-{asked.mode}.json", canonical(said))

        def check_off(tx: Transaction) -> None:
            tx.delete_site_document(due)
            tx.delete_site_document(kept)

        await services.catalog.write(check_off)

    def _place(self, asked: LogCopy) -> CopyPlace:
        """Return where the copy goes, as the site is set up now; raise `CallerError` E-CONFIG if nowhere."""
        services = self._services
        now = services.trust.floor.judged(services.clock.now())
        bundle, groups = services.trust.state().current, services.policies.policy.groups
        place = Means(services.site, bundle, services.copies, groups, now).place(asked)
        if place is None:
            raise CallerError(
                "E-CONFIG", f"no place for copies in {asked.region}", remedy="name one in gateway.toml, under [[copies]]"
            )
        return place


def copies_due(tx: Transaction) -> tuple[int, str | None]:
    """Return how many copies are not written yet, of at most 1 000, and since when the oldest waits."""
    kinds = [LogCopy.model_validate_json(body) for body in tx.site_documents(_TO).values()]
    oldest = [since for one in kinds if (since := waits_since(tx, one)) is not None]
    return len(tx.site_documents(DUE, limit=_COUNTED_MAX)), min(oldest, default=None)


def _kind(asked: LogCopy) -> str:
    return f"{asked.region}-{asked.mode}"
