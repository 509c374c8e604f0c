"""Tallies: how much of everything there is, and what waits, for whoever watches a site.

They read whole indexes and the narrow table of deliveries, so they are asked seldom: by a scrape, by `doctor`.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

from sqlalchemy import BindParameter, bindparam, case, func, select

from carnet.identifiers import Repository, SegmentId, SiteName, SpiffeId, TransferId
from carnet.transfer import DELIVERY, is_ended
from gateway.catalog import schema
from gateway.catalog.segments import pieces
from gateway.catalog.session import Session, from_micros
from gateway.catalog.statements import LIMIT, Statement, placeholders
from gateway.records import JobTally, SegmentUse, WaitingDelivery

WAITING: Final = ("offer-hold", "release-hold", "retrying", "held", "quarantined")
"""States of a delivery that wait for a person, a fact, or the other site."""
_t = schema.transfers.c
_d = schema.deliveries.c
_j = schema.jobs.c
_TRANSFERS = Statement(select(_t.state, func.count().label("number")).group_by(_t.state))
_DELIVERIES = Statement(select(_d.state, func.count().label("number")).group_by(_d.state))
_JOBS = Statement(
    select(
        _j.kind,
        func.count().label("number"),
        func.min(_j.due_at).label("due_at"),
        func.max(_j.attempts).label("attempts"),
        func.sum(case((_j.error.is_not(None), 1), else_=0)).label("failing"),
    ).group_by(_j.kind)
)
_UNFINISHED_BYTES = Statement(
    select(func.coalesce(func.sum(_t.bytes_received), 0)).where(
        _t.sender == bindparam("sender"), _t.state.in_([bindparam("first"), bindparam("second")])
    )
)
_ALL_UNFINISHED_BYTES = Statement(
    select(func.coalesce(func.sum(_t.bytes_received), 0)).where(_t.state.in_([bindparam("first"), bindparam("second")]))
)
_SEGMENTS = Statement(select(func.count(), func.coalesce(func.sum(schema.segments.c.size), 0)))
_OVER: Final = tuple(sorted(state for state in DELIVERY if is_ended(DELIVERY, state)))
_IS_DELIVERED = (
    "t.state = 'delivered' OR t.state = 'admitted' AND NOT EXISTS (SELECT 1 FROM deliveries AS d"  # noqa: S608 - question marks only
    f" WHERE d.transfer = t.id AND d.state NOT IN ({placeholders(_OVER)}))"
)


class Tallies(Session):
    """The tallies' part of `Transaction`."""

    def count_transfers(self) -> Mapping[str, int]:
        """Return how many transfers are in each state that any is in."""
        return {row["state"]: row["number"] for row in self._all(_TRANSFERS)}

    def count_deliveries(self) -> Mapping[str, int]:
        """Return how many deliveries are in each state that any is in."""
        return {row["state"]: row["number"] for row in self._all(_DELIVERIES)}

    def tally_jobs(self) -> list[JobTally]:
        """Return what is queued, by kind."""
        return [
            JobTally(
                kind=row["kind"],
                count=row["number"],
                oldest_due=from_micros(row["due_at"]),
                attempts_max=row["attempts"],
                failing=row["failing"],
            )
            for row in self._all(_JOBS)
        ]

    def waiting_deliveries(self, limit: int) -> list[WaitingDelivery]:
        """Return deliveries that wait for a person, a fact or the other site, longest first."""
        states = {f"state_{number}": state for number, state in enumerate(WAITING)}
        return [
            WaitingDelivery(
                transfer=TransferId(row["transfer"]),
                destination=SiteName(row["destination"]),
                state=row["state"],
                since=from_micros(row["state_at"]),
                error=row["error"],
            )
            for row in self._all(_waiting(), limit=limit, **states)
        ]

    def unfinished_bytes(self, sender: SpiffeId | None = None) -> int:
        """Return the sealed bytes that the unfinished transfers of `sender`, or of all, have brought in."""
        states = {"first": "declared", "second": "receiving"}
        row = (
            self._one(_ALL_UNFINISHED_BYTES, **states)
            if sender is None
            else self._one(_UNFINISHED_BYTES, sender=sender, **states)
        )
        return 0 if row is None else row[0]

    def tally_segments(self) -> tuple[int, int]:
        """Return how many segments are durable here, and their bytes together."""
        row = self._one(_SEGMENTS)
        return (0, 0) if row is None else (row[0], row[1])

    def segment_uses(self, segments: Iterable[SegmentId]) -> list[SegmentUse]:
        """Return who needs these segments; see `Transaction.segment_uses`."""
        uses: list[SegmentUse] = []
        for some in pieces([segment.binary for segment in segments]):
            marks = placeholders(some)
            rows = self._connection.execute(
                f"SELECT u.segment, t.repository, COUNT(*) AS users, MAX({_IS_DELIVERED}) AS delivered"  # noqa: S608 - question marks only
                " FROM transfer_segments AS u JOIN transfers AS t ON t.id = u.transfer"
                f" WHERE u.segment IN ({marks}) GROUP BY u.segment, t.repository"
                " UNION ALL SELECT segment, NULL, COUNT(*), 0 FROM carried_segments"
                f" WHERE segment IN ({marks}) AND state = 'here' GROUP BY segment",
                [*_OVER, *some, *some],
            )
            uses += [_use_of(row) for row in rows]
        return uses


def _use_of(row: sqlite3.Row) -> SegmentUse:
    repository = None if row["repository"] is None else Repository(row["repository"])
    return SegmentUse(
        segment=SegmentId.from_binary(row["segment"]),
        repository=repository,
        users=row["users"],
        is_delivered=bool(row["delivered"]),
    )


@cache
def _waiting() -> Statement:
    states: list[BindParameter[str]] = [bindparam(f"state_{number}") for number in range(len(WAITING))]
    clause = select(_d.transfer, _d.destination, _d.state, _d.state_at, _d.error).where(_d.state.in_(states))
    return Statement(clause.order_by(_d.state_at).limit(LIMIT))
