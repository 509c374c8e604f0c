"""Who may do what: grants are texts, checked for every request, and what no grant allows is refused.

A grant reads `push,pull:app/*@eu-lane`: these actions, on repositories and lanes that match. `*` stands for any characters, also
none and also `/`; nothing else is special. What happens inside a site is on the lane `home`.

Rules:      1. no grant, no access: an unknown identity has none  2. one grant must allow action, repository and lane together
            3. a refusal names all three
Spec:       docs/protocol.md section "Authorisation"
Example:    >>> parse_grant("push,pull:app/*@home").allows("push", "app/api", "home")
            True
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from carnet.errors import CallerError, NotAuthorised
from gateway.records import IdentityRecord

ACTIONS: Final = frozenset({"push", "pull", "delete", "inspect", "admin", "approve"})
"""What can be granted."""
_FORM = re.compile(r"([a-z]+(?:,[a-z]+)*):([a-z0-9._/*-]{1,255})@([a-z0-9*-]{1,63})", re.ASCII)


@dataclass(frozen=True)
class Grant:
    """A parsed grant."""

    actions: frozenset[str]
    repositories: re.Pattern[str]
    lanes: re.Pattern[str]
    beginning: str
    """What the names of all its repositories begin with."""

    def allows(self, action: str, repository: str, lane: str) -> bool:
        """Tell whether this grant alone allows `action` on `repository` over `lane`."""
        return (
            action in self.actions
            and self.repositories.fullmatch(repository) is not None
            and self.lanes.fullmatch(lane) is not None
        )


@lru_cache(maxsize=4_096)
def parse_grant(text: str) -> Grant:
    """Return the grant in `text`; raise `CallerError` E-USAGE if it is not `action[,action]:<repository glob>@<lane glob>`."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise CallerError(
            "E-USAGE",
            f"not a grant: {ascii(text)[:120]}",
            remedy="write action[,action]:<repository glob>@<lane glob>, as in push,pull:app/*@*",
        )
    actions = frozenset(form[1].split(","))
    if unknown := sorted(actions - ACTIONS):
        raise CallerError("E-USAGE", f"no such action: {', '.join(unknown)}", remedy=f"actions are {', '.join(sorted(ACTIONS))}")
    return Grant(actions, _glob(form[2]), _glob(form[3]), form[2].partition("*")[0])


class Access:
    """Decides requests by the grants of an identity's record; holds nothing itself."""

    def allows(self, record: IdentityRecord | None, action: str, repository: str, lane: str) -> bool:
        """Tell whether some grant of the identity allows this."""
        return record is not None and any(parse_grant(text).allows(action, repository, lane) for text in record.grants)

    def beginnings(self, record: IdentityRecord | None, action: str, lane: str) -> list[str]:
        """Return, in order, what names of repositories begin with on which the identity may do this; none lies within another.

        Not every name that begins so is allowed: this is where to look.
        """
        grants = [parse_grant(text) for text in (() if record is None else record.grants)]
        found: list[str] = []
        for one in sorted(grant.beginning for grant in grants if action in grant.actions and grant.lanes.fullmatch(lane)):
            if not found or not one.startswith(found[-1]):
                found.append(one)
        return found

    def require(self, record: IdentityRecord | None, action: str, repository: str, lane: str) -> None:
        """Return if the identity may do this; raise `NotAuthorised` E-NOT-ALLOWED naming action, repository and lane."""
        if not self.allows(record, action, repository, lane):
            who = "an unknown identity" if record is None else f"{record.kind} {record.identity.name}"
            raise NotAuthorised("E-NOT-ALLOWED", f"{who} may not {action} {repository} on lane {lane}")


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in re.sub(r"\*+", "*", text).split("*")))
