"""Granting: what an operator gives an identity, with an end within the site's bound, and the change of it once it is enrolled.

Rights of an agent are meant to end: nobody remembers a robot that does its work. A site gives them for `limits.agent_days` at
most unless it sets that to 0; the change is read with the next request, on whatever connection it comes.

Rules:      1. what is given ends within the bound  2. the change and its log entry are one transaction
            3. rights that ended come back by their names only, while the identity has others
            4. who is revoked gets nothing back this way: it takes a new invite, and new keys
Spec:       docs/operations.md section "Who may do what"
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.errors import CallerError, CapacityError
from carnet.identifiers import SpiffeId
from gateway.grants import Grant, parse_grant
from gateway.ports import Transaction
from gateway.records import IdentityRecord
from gateway.revocation_marks import mark_of


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How long what is given lasts: until a day that the operator names, or as long as the site allows."""

    until: date | None = None
    """The last day of each grant that has none of its own."""
    days_max: int = 0
    """Days from today after which every right ends; 0: it need not."""


NO_END: Final = Ends()
"""What is given lasts, unless a grant says otherwise."""


def dated(grants: Sequence[str], ends: Ends, today: date) -> tuple[str, ...]:
    """Return the grants as they are given today (in UTC): each with its own end, or the one named, or the last one allowed.

    Raises:
        CallerError: E-USAGE for a text that is no grant, an end that is over, two ends for one grant.
        CapacityError: E-LIMIT agent_days for one that is too far away.
    """
    return tuple(str(_dated(parse_grant(text), ends, today)) for text in grants)


def change_grants(tx: Transaction, identity: SpiffeId, grants: Sequence[str] | None, ends: Ends, today: date) -> IdentityRecord:
    """Give an enrolled identity these grants in place of those it has, or for None the same with another end; return the record.

    Invites that it did not use are as they were: whoever uses one gets what that invite says.

    Raises:
        CallerError: E-USAGE if it is not enrolled here, or revoked; if some of its rights ended and others did not, so that
            nobody said which are meant; and as `dated`. CapacityError: E-LIMIT agent_days.
    """
    record, mark = tx.identity(identity), mark_of(tx, identity)
    if record is None:
        remedy = "see who is: `carnet-gateway agent list`"
        raise CallerError("E-USAGE", f"no {identity.kind} {identity.name} is enrolled here", remedy=remedy)
    if mark is not None and mark.is_revoked:
        said = f"{identity.kind} {identity.name} was revoked at {mark.since} ({mark.reason})"
        raise CallerError("E-USAGE", said, remedy="give it new keys: `carnet-gateway invite`")
    given = _same(record, today) if grants is None else grants
    changed = replace(record, grants=dated(given, ends, today))
    tx.save_identity(changed)
    fields: dict[str, JsonValue] = {"identity": identity, "before": list(record.grants), "grants": list(changed.grants)}
    tx.append(EntryType.AGENT_GRANTED, fields)
    return changed


def _same(record: IdentityRecord, today: date) -> list[str]:
    """Return the grants of the record without their ends."""
    grants = [parse_grant(text) for text in record.grants]
    ended = [grant for grant in grants if grant.until is not None and grant.until < today]
    if ended and len(ended) < len(grants):
        said = f"{record.identity.name} has rights that ended and others that did not; which are meant is not clear"
        raise CallerError(
            "E-USAGE", said, remedy="name all that it shall have with --grant: `carnet-gateway agent show` lists them"
        )
    return [str(grant.ending(None)) for grant in grants]


def _dated(grant: Grant, ends: Ends, today: date) -> Grant:
    last = None if ends.days_max == 0 else today + timedelta(days=ends.days_max)
    until = grant.until
    if until is None:
        until = ends.until or last
    elif ends.until not in {None, until}:
        raise CallerError("E-USAGE", f"two ends for {grant}: its own, and {ends.until}", remedy="leave one of them out")
    if until is not None and until < today:
        raise CallerError("E-USAGE", f"{until} is over: it is {today}", remedy="name today or a later day")
    if last is not None and until is not None and until > last:
        raise CapacityError(
            "E-LIMIT",
            f"rights of agents end after {ends.days_max} days, on {last}: got {until}",
            limit="agent_days",
            remedy=f"name a day until {last}, or set limits.agent_days",
        )
    return grant.ending(until)
