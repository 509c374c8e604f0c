"""Grants: the texts that give rights, read and written: actions or roles, on repositories, over lanes, perhaps until a day.

A grant reads `push,pull:app/*@eu-lane`, or `sender:team/*@eu-jp,until=2027-03-31`: these actions, on repositories and lanes that
match, until the end of that day in UTC. A role stands where an action may, and for the actions that `ROLES` gives it. `*` stands
for any characters, also none and also `/`; nothing else is special. What happens inside a site is on the lane `home`.

Rules:      1. a grant is kept as it was written; a role is looked up each time it is asked, not when it was given
            2. an end only takes away  3. actions and roles have no name in common
Spec:       docs/operations.md section "Who may do what" (its table is generated from `ACTIONS` and `ROLES`)
Example:    >>> grant = parse_grant("sender:team/*@eu-jp,until=2027-03-31")
            >>> sorted(grant.actions), str(grant.until), str(grant)
            (['inspect', 'push'], '2027-03-31', 'sender:team/*@eu-jp,until=2027-03-31')
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from carnet.errors import CallerError

ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "push": "send artifacts: declare, upload, commit",
        "pull": "list, show and pull artifacts (on lane `home`)",
        "delete": "remove tags (on lane `home`), recall what was sent",
        "inspect": "see which artifacts can be recalled, as every other right lets one",
        "admin": "see, cancel and retry every transfer of the site (for `*@*`)",
        "approve": "see what waits for approval and hand in what persons signed",
    }
)
"""What can be granted, and what it lets one do."""
ROLES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "consumer": frozenset({"pull"}),
        "sender": frozenset({"push", "inspect"}),
        "developer": frozenset({"push", "pull", "inspect"}),
        "maintainer": frozenset({"push", "pull", "delete", "inspect"}),
        "approver": frozenset({"approve"}),
        "operator": frozenset({"admin"}),
    }
)
"""Names for sets of actions."""
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_FORM = re.compile(
    r"([a-z]+(?:,[a-z]+)*):([a-z0-9._/*-]{1,255})@([a-z0-9*-]{1,63})(?:,until=([0-9]{4}-[0-9]{2}-[0-9]{2}))?", re.ASCII
)
_WRITTEN = "<action or role>[,...]:<repository glob>@<lane glob>[,until=<day>]"


@dataclass(frozen=True)
class Grant:
    """A parsed grant; `str` gives its text."""

    words: tuple[str, ...]
    """Actions and roles, as they were written."""
    repository_glob: str
    lane_glob: str
    until: date | None = None
    """The last day, in UTC, on which it gives anything; None if it does not end."""
    actions: frozenset[str] = field(init=False)
    """What the words stand for."""
    _repositories: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _lanes: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Look the words up; raise `CallerError` E-USAGE for one that is neither action nor role."""
        if unknown := sorted(set(self.words) - ACTIONS.keys() - ROLES.keys()):
            raise CallerError(
                "E-USAGE",
                f"no such action or role: {', '.join(unknown)[:120]}",
                remedy=f"actions are {', '.join(sorted(ACTIONS))}; roles are {', '.join(sorted(ROLES))}",
            )
        found = frozenset[str]().union(*(ROLES.get(word, frozenset({word})) for word in self.words))
        object.__setattr__(self, "actions", found)
        object.__setattr__(self, "_repositories", _glob(self.repository_glob))
        object.__setattr__(self, "_lanes", _glob(self.lane_glob))

    def __str__(self) -> str:
        end = "" if self.until is None else f",until={self.until.isoformat()}"
        return f"{','.join(self.words)}:{self.repository_glob}@{self.lane_glob}{end}"

    @property
    def beginning(self) -> str:
        """What the names of all its repositories begin with."""
        return self.repository_glob.partition("*")[0]

    def has_ended(self, now: datetime) -> bool:
        """Tell whether its last day is over at `now` (aware)."""
        return self.until is not None and now.astimezone(UTC).date() > self.until

    def covers_lane(self, lane: str) -> bool:
        """Tell whether it is about this lane, among others perhaps."""
        return self._lanes.fullmatch(lane) is not None

    def covers(self, action: str, repository: str, lane: str) -> bool:
        """Tell whether it is about this, be it over or not."""
        return action in self.actions and self._repositories.fullmatch(repository) is not None and self.covers_lane(lane)

    def allows(self, action: str, repository: str, lane: str, now: datetime) -> bool:
        """Tell whether this grant alone allows `action` on `repository` over `lane` at `now` (aware)."""
        return not self.has_ended(now) and self.covers(action, repository, lane)

    def ending(self, until: date | None) -> "Grant":
        """Return the same grant with this end, in place of the one it may have."""
        return replace(self, until=until)


@lru_cache(maxsize=4_096)
def parse_grant(text: str) -> Grant:
    """Return the grant in `text`; raise `CallerError` E-USAGE if it is none, or names an action or role that there is not."""
    form = _FORM.fullmatch(text)
    if form is None:
        raise CallerError(
            "E-USAGE",
            f"not a grant: {ascii(text)[:120]}",
            remedy=f"write {_WRITTEN}, as in sender:app/*@*,until=2027-03-31",
        )
    return Grant(tuple(form[1].split(",")), form[2], form[3], None if form[4] is None else parse_day(form[4]))


def readable(texts: Iterable[str]) -> Iterator[Grant]:
    """Yield the grants among the texts; what this version cannot read, such as a role of a later one, is left out."""
    for text in texts:
        try:
            yield parse_grant(text)
        except CallerError:
            continue


def ended(texts: Iterable[str], now: datetime) -> list[str]:
    """Return those of the texts whose last day is over at `now` (aware)."""
    return [str(grant) for grant in readable(texts) if grant.has_ended(now)]


def parse_day(text: str) -> date:
    """Return the day that `text` names; raise `CallerError` E-USAGE unless it is one of the calendar, as `YYYY-MM-DD`."""
    wrong = CallerError("E-USAGE", f"not a day: {ascii(text)[:40]}", remedy="write it as in 2027-03-31")
    if _DAY.fullmatch(text) is None:  # `fromisoformat` takes weeks, and days without hyphens
        raise wrong
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise wrong from None


def _glob(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(piece) for piece in re.sub(r"\*+", "*", text).split("*")))
