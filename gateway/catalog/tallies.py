"""Tallies: how much of everything there is, and what waits, for whoever watches a site.

They read whole indexes and the narrow table of deliveries, so they are asked seldom: by a scrape, by `doctor`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from sqlalchemy import BindParameter, bindparam, case, func, select

from carnet.identifiers import SiteName, SpiffeId, TransferId
from gateway.catalog import schema
from gateway.catalog.session import Session, from_micros
from gateway.catalog.statements import LIMIT, Statement
from gateway.records import JobTally, WaitingDelivery

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

    def unfinished_bytes(self, sender: SpiffeId) -> int:
        """Return the sealed bytes that the unfinished transfers of `sender` have brought in."""
        row = self._one(_UNFINISHED_BYTES, sender=sender, first="declared", second="receiving")
        return 0 if row is None else row[0]


@cache
def _waiting() -> Statement:
    states: list[BindParameter[str]] = [bindparam(f"state_{number}") for number in range(len(WAITING))]
    clause = select(_d.transfer, _d.destination, _d.state, _d.state_at, _d.error).where(_d.state.in_(states))
    return Statement(clause.order_by(_d.state_at).limit(LIMIT))
