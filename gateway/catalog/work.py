"""Jobs with leases and fences, as rows.

A waiting job and a leased one differ in one column; `due_at` says for both when someone may take it. So a lease that ran out
is simply a job that is due.

Rules:      1. one row a kind and key until it is done  2. `fence` grows with each lease; an older fence changes nothing
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import BindParameter, bindparam, case, delete, false, func, null, select, true, update
from sqlalchemy.dialects.sqlite import insert

from gateway.catalog import schema
from gateway.catalog.session import Session, optional_time, to_micros
from gateway.catalog.statements import LIMIT, Statement
from gateway.records import JobRecord

LEASE = timedelta(seconds=60)
_ERROR_CHARS_MAX = 1_000
_j = schema.jobs.c
_new = insert(schema.jobs).values(
    kind=bindparam("kind"), key=bindparam("key"), due_at=bindparam("due_at"), leased=false(), attempts=0, fence=0
)
_QUEUE = Statement(
    _new.on_conflict_do_update(
        index_elements=["kind", "key"],
        set_={
            "due_at": case((_j.leased, _j.due_at), else_=func.min(_j.due_at, _new.excluded.due_at)),
            "again_at": case(
                (_j.leased, func.min(func.coalesce(_j.again_at, _new.excluded.due_at), _new.excluded.due_at)), else_=null()
            ),
        },
    )
)
_LEASE = Statement(
    update(schema.jobs)
    .where(_j.id == bindparam("job"))
    .values(leased=true(), due_at=bindparam("until"), again_at=null(), attempts=_j.attempts + 1, fence=_j.fence + 1)
    .returning(_j.id, _j.kind, _j.key, _j.attempts, _j.fence)
)
_IS_HELD = (_j.id == bindparam("job"), _j.fence == bindparam("held_fence"), _j.leased)
_RENEW = Statement(update(schema.jobs).where(*_IS_HELD).values(due_at=bindparam("until")))
_DONE = Statement(delete(schema.jobs).where(*_IS_HELD, _j.again_at.is_(None)))
_AGAIN = Statement(
    update(schema.jobs).where(*_IS_HELD).values(leased=false(), due_at=_j.again_at, again_at=null(), attempts=0, error=null())
)
_RETRY = Statement(
    update(schema.jobs)
    .where(*_IS_HELD)
    .values(
        leased=false(),
        due_at=func.min(bindparam("next_at"), func.coalesce(_j.again_at, bindparam("next_at"))),
        again_at=null(),
        error=bindparam("problem"),
    )
)
_RECOVER = Statement(update(schema.jobs).where(_j.leased).values(leased=false(), due_at=bindparam("now")))


class Work(Session):
    """The jobs' part of `Transaction`, and what the job queue needs beside it."""

    def queue_job(self, kind: str, key: str, *, delay_s: float = 0.0) -> None:
        """Queue background work; a job of the same kind and key that is not yet done absorbs this one (and runs again)."""
        self._jobs_changed = True
        self._run(_QUEUE, kind=kind, key=key, due_at=to_micros(self.now + timedelta(seconds=delay_s)))

    def lease_job(self, kinds: Sequence[str]) -> JobRecord | None:
        """Lease the job of these kinds that has been due longest for `LEASE`, or return None."""
        due = self._one(_due(len(kinds)), now=to_micros(self.now), limit=1, **_named(kinds))
        if due is None:
            return None
        row = self._one(_LEASE, job=due["id"], until=to_micros(self.now + LEASE))
        return None if row is None else JobRecord(**dict(row))

    def renew_job(self, job: JobRecord) -> bool:
        """Prolong the lease to `LEASE` from now; False if it is lost."""
        values = {"job": job.id, "held_fence": job.fence, "until": to_micros(self.now + LEASE)}
        return self._run(_RENEW, **values).rowcount == 1

    def finish_job(self, job: JobRecord) -> None:
        """Forget the job; or make it due again if it was queued meanwhile; or nothing if the lease is lost."""
        held = {"job": job.id, "held_fence": job.fence}
        if self._run(_DONE, **held).rowcount == 0 and self._run(_AGAIN, **held).rowcount == 1:
            self._jobs_changed = True

    def retry_job(self, job: JobRecord, *, delay_s: float, error: str) -> None:
        """Make the job due after `delay_s`, or earlier if it was queued meanwhile; nothing if the lease is lost."""
        next_at = to_micros(self.now + timedelta(seconds=delay_s))
        held = {"job": job.id, "held_fence": job.fence}
        if self._run(_RETRY, **held, next_at=next_at, problem=error[:_ERROR_CHARS_MAX]).rowcount == 1:
            self._jobs_changed = True

    def recover_jobs(self) -> int:
        """End the leases of a process that is gone; return how many jobs are due again."""
        count = self._run(_RECOVER, now=to_micros(self.now)).rowcount
        self._jobs_changed = self._jobs_changed or count > 0
        return count

    def next_job_due(self, kinds: Sequence[str]) -> datetime | None:
        """Return when the next job of these kinds can be leased (perhaps in the past), or None if there is none."""
        row = self._one(_earliest(len(kinds)), **_named(kinds))
        return None if row is None else optional_time(row[0])


@cache
def _due(kinds: int) -> Statement:
    names: list[BindParameter[str]] = [bindparam(f"kind_{number}") for number in range(kinds)]
    clause = select(_j.id).where(_j.due_at <= bindparam("now"), _j.kind.in_(names))
    return Statement(clause.order_by(_j.due_at, _j.id).limit(LIMIT))


@cache
def _earliest(kinds: int) -> Statement:
    names: list[BindParameter[str]] = [bindparam(f"kind_{number}") for number in range(kinds)]
    return Statement(select(func.min(_j.due_at)).where(_j.kind.in_(names)))


def _named(kinds: Sequence[str]) -> dict[str, str]:
    return {f"kind_{number}": kind for number, kind in enumerate(kinds)}
