"""Log copies: what policy wants kept of a decision in another region, written there and checked off.

What is to be copied is put down in the transaction that records the decision, so a crash forgets none; a job writes it once the
decision is under a checkpoint, a file each. While a place cannot be written, what asks for a copy is held after a while
(`gateway.obliging`).

Rules:      1. a full copy has the signed decision, what policy was asked, and the proof; one of hashes has the proof alone, whose
               openings are two digests  2. a copy that is there is never changed, only written again the same
Layout:     <directory>/<site>/<index of the log entry, 12 digits>-<full|hash>.json
Spec:       docs/policy.md section "Obligations"; DESIGN section 9
"""

import asyncio
from collections.abc import Callable, Iterable
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
from gateway.obliging import BEHIND, Means
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services
from gateway.settings import CopyPlace

KIND: Final = "copy-log"
_ALL: Final = "all"
_DUE: Final = "log-copy/"
_BYTES_MAX: Final = 8 * STATEMENT_BYTES_MAX
_A_ROUND: Final = 100


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
    wanted = {(one.region, one.mode): one for one in read if isinstance(one, LogCopy) and not means.keeps_itself(one, facts)}
    for region, mode in sorted(wanted):
        said: dict[str, JsonValue] = {"index": index, "region": region, "mode": mode}
        if mode == "full":
            said["decision"] = documents.envelope_json(decision)
            said["inputs"] = parse_object(inputs, bytes_max=_BYTES_MAX)
        tx.put_site_document(f"{_DUE}{index:012d}/{region}-{mode}", canonical(said))
    if wanted:
        tx.queue_job(KIND, _ALL)


class LogCopies:
    """Handles `copy-log` jobs: writes every copy that is put down, oldest first."""

    def __init__(self, services: Services, write: Callable[[Path, bytes], None]) -> None:
        """Use the site's services; `write` puts bytes durably under a path, and blocks."""
        self._services = services
        self._write = write

    async def run(self, _job: JobRecord) -> None:
        """Write what is due; what cannot be written is tried again, and it is kept since when."""
        try:
            while due := await self._services.catalog.read(lambda tx: list(tx.site_documents(_DUE).items())[:_A_ROUND]):
                for name, body in due:
                    await self._copy(name, parse_object(body, bytes_max=_BYTES_MAX))
        except CarnetError:
            await self._services.catalog.write(_mark_behind)
            raise
        await self._services.catalog.write(lambda tx: tx.delete_site_document(BEHIND))

    async def _copy(self, name: str, said: dict[str, JsonValue]) -> None:
        services = self._services
        asked = LogCopy.model_validate({"region": said["region"], "mode": said["mode"]})
        place = self._place(asked)
        index = int(str(said["index"]))
        proof = await services.log.prove(index, ("transfer", "decision"))
        site: dict[str, JsonValue] = {"site": services.site, "region": place.region, "mode": asked.mode, "proof": proof.to_json()}
        kept = {key: said[key] for key in ("decision", "inputs") if key in said}
        path = place.directory / services.site / f"{index:012d}-{asked.mode}.json"
        await asyncio.to_thread(self._write, path, canonical(site | kept))
        await services.catalog.write(lambda tx: tx.delete_site_document(name))

    def _place(self, asked: LogCopy) -> CopyPlace:
        """Return where the copy goes, as the site is set up now; raise `CallerError` E-CONFIG if nowhere."""
        services = self._services
        now = services.trust.floor.judged(services.clock.now())
        bundle, groups = services.trust.state().current, services.policies.policy.groups
        place = Means(services.site, bundle, services.copies, groups, now.date()).place(asked)
        if place is None:
            raise CallerError(
                "E-CONFIG", f"no place for copies in {asked.region}", remedy="name one in gateway.toml, under [[copies]]"
            )
        return place


def copies_due(tx: Transaction) -> tuple[int, str | None]:
    """Return how many copies are not written yet, at most 10 000, and since when none could be."""
    since = tx.site_document(BEHIND)
    return len(tx.site_documents(_DUE)), None if since is None else since.decode("ascii")


def _mark_behind(tx: Transaction) -> None:
    if tx.site_document(BEHIND) is None:
        tx.put_site_document(BEHIND, format_time(tx.now).encode("ascii"))
