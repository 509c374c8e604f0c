"""Terms: what a destination keeps to, because the origin released under it or its own policy asks: no onward sending, deletion.

The origin's signed release decision carries them. What this version does not understand of them is held, never ignored.

Rules:      1. an artifact under `no-onward` goes to no other site, also after it was deleted here, whoever pushes it
            2. `delete-after` counts from the delivery; the shortest stands
            3. deletion is a recall of this site for itself: key and segments go, and the origin gets a `deleted` receipt
Spec:       docs/policy.md section "Obligations"
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from carnet.decision import Decision, Gate, Obligation, Outcome
from carnet.identifiers import TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.policy.obligations import DELETE_AFTER, NO_ONWARD, DeleteAfter, read_obligation, strange, terms
from carnet.recall import RecallCause
from carnet.timestamps import format_time, parse_time
from carnet.transfer import MACHINES, may
from gateway import documents
from gateway.deciding import Judgement
from gateway.onward import forbid_onward
from gateway.ports import Transaction
from gateway.recalling import recall_here
from gateway.records import JobRecord, TransferRecord
from gateway.services import Services

_DELETE_AT: Final = "delete-at"
KIND: Final = "delete-after"


def judge_terms(tx: Transaction, services: Services, judgement: Judgement, transfer: TransferId) -> Judgement:
    """Hold at `receipt` what came under terms that this version does not understand."""
    release = _release(tx, services, transfer)
    problem = None if release is None else strange(release.obligations)
    if problem is None:
        return judgement
    return judgement.overruled(
        Outcome.HOLD, "terms", problem[:TEXT_CHARS_MAX], "upgrade this site, or ask its origin to release it under other terms"
    )


def keep_terms(tx: Transaction, services: Services, record: TransferRecord) -> None:
    """Put down what the delivered transfer binds this site to, in the transaction that makes it visible."""
    days = []
    for one in _terms(tx, services, record.id):
        read: Any = read_obligation(one)
        if one.kind == NO_ONWARD and record.digest is not None and record.origin != services.site:
            forbid_onward(tx, record.digest, record.id)
        if one.kind == DELETE_AFTER and isinstance(read, DeleteAfter):
            days.append(read.days)
    if not days:
        return
    kept = tx.document(record.id, _DELETE_AT)
    end = tx.now + timedelta(days=min(days)) if kept is None else parse_time(kept.decode("ascii"))
    tx.put_document(record.id, _DELETE_AT, format_time(end).encode("ascii"))
    tx.queue_job(KIND, record.id, delay_s=max(0.0, (end - tx.now).total_seconds()))


class DeleteByTerms:
    """Handles `delete-after` jobs; the key is the transfer id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def run(self, job: JobRecord) -> None:
        """Withdraw the transfer here if its time has come.

        Raises:
            Held: E-CLOCK: a clock that cannot be right deletes nothing.
        """
        transfer, services = TransferId(job.key), self._services
        services.trust.require_clock()

        def change(tx: Transaction) -> None:
            record, kept = tx.transfer(transfer), tx.document(transfer, _DELETE_AT)
            if record is None or kept is None or not may(MACHINES[record.role], record.state, "recall"):
                return
            end = parse_time(kept.decode("ascii"))
            if services.trust.floor.judged(tx.now) < end:
                tx.queue_job(job.kind, job.key, delay_s=max(1.0, (end - tx.now).total_seconds()))
                return
            reason = f"it was to be deleted here at {kept.decode('ascii')} (delete-after)"
            recall_here(tx, services, record, cause=RecallCause.EXPIRED, reason=reason, by=services.identity)

        await services.catalog.write(change)


def _release(tx: Transaction, services: Services, transfer: TransferId) -> Decision | None:
    """Return the origin's decision that let the key come here, if the transfer is from another site."""
    record = tx.transfer(transfer)
    body = tx.document(transfer, documents.decision_name(Gate.RELEASE, services.site))
    if record is None or record.role != "destination" or body is None:
        return None
    return Decision.read_unverified(documents.read_envelope(body))


def _terms(tx: Transaction, services: Services, transfer: TransferId) -> Iterator[Obligation]:
    """Yield the terms of the release, and those of this site's own decision at `receipt`."""
    release = _release(tx, services, transfer)
    yield from () if release is None else terms(release.obligations)
    body = documents.need(tx, transfer, documents.decision_name(Gate.RECEIPT, services.site))
    yield from terms(Decision.read_unverified(documents.read_envelope(body)).obligations)
