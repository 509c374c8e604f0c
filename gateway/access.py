"""Who may do what: the grants of an identity, judged for every request, and what no grant allows is refused.

Rules:      1. no grant, no access: an unknown identity has none  2. one grant must allow action, repository and lane together
            3. a refusal names all three, and the day if there was a right that ended
            4. ends are judged at the later of the clock and the time floor: a clock that is set back gives no right again
            5. a grant that this version cannot read gives nothing
Spec:       docs/protocol.md section "Authorisation"; docs/operations.md section "Who may do what"
"""

from collections.abc import Callable
from datetime import date, datetime

from carnet.errors import NotAuthorised
from gateway.grants import Grant, readable
from gateway.records import IdentityRecord


class Access:
    """Decides requests by the grants of an identity's record as it is now; keeps nothing from one request to the next."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """`now` gives the time that ends are judged at."""
        self._now = now

    def allows(self, record: IdentityRecord | None, action: str, repository: str, lane: str) -> bool:
        """Tell whether some grant of the identity allows this now."""
        now = self._now()
        return any(grant.allows(action, repository, lane, now) for grant in _grants(record))

    def acts(self, record: IdentityRecord | None, action: str) -> bool:
        """Tell whether there is anything on which the identity may do this now."""
        return any(action in grant.actions for grant in self._standing(record))

    def beginnings(self, record: IdentityRecord | None, action: str, lane: str) -> list[str]:
        """Return, in order, what names of repositories begin with on which the identity may do this; none lies within another.

        Not every name that begins so is allowed: this is where to look.
        """
        found: list[str] = []
        standing = [grant for grant in self._standing(record) if action in grant.actions and grant.covers_lane(lane)]
        for one in sorted(grant.beginning for grant in standing):
            if not found or not one.startswith(found[-1]):
                found.append(one)
        return found

    def require(self, record: IdentityRecord | None, action: str, repository: str, lane: str) -> None:
        """Return if the identity may do this; raise `NotAuthorised` E-NOT-ALLOWED naming action, repository and lane."""
        if not self.allows(record, action, repository, lane):
            self.refuse_ended(record, action, repository, lane)
            who = "an unknown identity" if record is None else f"{record.kind} {record.identity.name}"
            raise NotAuthorised("E-NOT-ALLOWED", f"{who} may not {action} {repository} on lane {lane}")

    def refuse_ended(self, record: IdentityRecord | None, action: str, repository: str, lane: str) -> None:
        """Raise `NotAuthorised` E-NOT-ALLOWED with the day if the identity was allowed this and is no more; else return.

        It rests on the identity's own grants and on what it asked for, so it tells nobody what is there.
        """
        if record is not None and not self.allows(record, action, repository, lane):
            covering = [grant for grant in _grants(record) if grant.covers(action, repository, lane)]
            _refuse(record, f"{action} {repository} on lane {lane}", covering)

    def refuse_ended_action(self, record: IdentityRecord | None, action: str) -> None:
        """Raise `NotAuthorised` E-NOT-ALLOWED with the day if all rights to this action ended; else return."""
        if record is not None and not self.acts(record, action):
            _refuse(record, f"{action} anything", [grant for grant in _grants(record) if action in grant.actions])

    def _standing(self, record: IdentityRecord | None) -> list[Grant]:
        now = self._now()
        return [grant for grant in _grants(record) if not grant.has_ended(now)]


def _grants(record: IdentityRecord | None) -> list[Grant]:
    """Return the grants of the record that can be read (rule 5)."""
    return [] if record is None else list(readable(record.grants))


def _refuse(record: IdentityRecord, what: str, ended: list[Grant]) -> None:
    days: list[date] = [grant.until for grant in ended if grant.until is not None]
    if days:
        name = record.identity.name
        remedy = "ask the operator to grant it again"
        if record.kind == "agent":
            remedy = f"ask the operator to prolong it: carnet-gateway agent grant DIR {name} --until DAY"
        raise NotAuthorised(
            "E-NOT-ALLOWED", f"{record.kind} {name} may not {what}: that right ended on {max(days)}", remedy=remedy
        )
