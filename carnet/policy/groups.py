r"""Groups of jurisdictions: named sets of ISO 3166 codes, from dated files with their sources, and whether a code is in one.

The lists of the law change monthly and drift apart, so each is data with the days between which it may be relied upon; who asks
after that is told so instead of being answered.

Rules:      1. a code that no file knows has no answer  2. a file outside its days gives none
            3. where only a part of a country is listed, the country alone is neither in nor out
            4. a country that is listed has its parts in it
Spec:       docs/policy.md section "Groups of jurisdictions"; ISO 3166-1, ISO 3166-2; COMPLIANCE sections 0.4 and 1.4 (R3, R4)
Example:    >>> from datetime import date
            >>> text = (
            ...     "apiVersion: carnet/groups/v1\nid: x\nsource: a book\nreviewed_by: me\nreviewed_on: 2026-01-01\n"
            ...     "effective_from: 2026-01-01\neffective_until: 2026-12-31\n"
            ...     "codes: [FR]\ngroups: {OURS: {title: ours, members: [{code: FR}]}}"
            ... )
            >>> groups = Groups([parse_groups(text, "ours.yaml")])
            >>> groups.standing("FR", ("OURS",), date(2026, 5, 1)).name, groups.standing("QQ", ("OURS",), date(2026, 5, 1)).name
            ('IN', 'UNKNOWN')
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from carnet.encoding import canonical
from carnet.errors import CallerError
from carnet.identifiers import Digest
from carnet.policy.source import parse_as
from carnet.statement import ShortText, Unique, WireModel, Word
from carnet.timestamps import Day

GroupName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,62}$")]
"""The name of a group, such as `EEA`."""
_Code = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
_GROUPS_MAX: Final = 64
_MEMBERS_MAX: Final = 512
_CACHED_MAX: Final = 1024


class Standing(Enum):
    """Where a code stands towards some groups on a day."""

    IN = "in"
    OUT = "out"
    UNKNOWN = "no file knows the code"
    PART_MISSING = "only parts of the country are listed, and which part is not stated"
    OUT_OF_DATE = "a file may not be relied upon on that day"


class Member(WireModel):
    """One code, with the days between which it counts, both included, and what to know about it."""

    code: _Code
    since: Day | None = None
    until: Day | None = None
    note: ShortText | None = None

    def counts_on(self, day: str) -> bool:
        """Tell whether it is a member on `day`."""
        return (self.since is None or self.since <= day) and (self.until is None or day <= self.until)


class Group(WireModel):
    """One group; no code stands in it twice."""

    title: ShortText
    cite: ShortText | None = None
    members: Annotated[tuple[Member, ...], Field(min_length=1, max_length=_MEMBERS_MAX)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        codes = [member.code for member in self.members]
        if len(set(codes)) != len(codes):
            raise ValueError("a code stands twice in the group")
        return self


class GroupFile(WireModel):
    """One dated file: groups, or the codes that there are, or both."""

    apiVersion: Literal["carnet/groups/v1"]  # noqa: N815 - as in policies
    kind: Literal["Groups"] = "Groups"
    id: Word
    effective_from: Day
    effective_until: Day
    source: ShortText
    reviewed_by: ShortText
    reviewed_on: Day
    codes: Annotated[tuple[_Code, ...], Field(max_length=_MEMBERS_MAX), Unique] = ()
    groups: Annotated[dict[GroupName, Group], Field(max_length=_GROUPS_MAX)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.effective_until < self.effective_from:
            raise ValueError("effective_until is before effective_from")
        return self

    def counts_on(self, day: str) -> bool:
        """Tell whether the file may be relied upon on `day`."""
        return self.effective_from <= day <= self.effective_until


@dataclass(frozen=True)
class _Expanded:
    """What some groups are together on a day."""

    is_current: bool
    codes: frozenset[str]
    parted: frozenset[str]
    """Countries of which parts are in `codes`."""


class Groups:
    """All groups that a policy may name. Thread-safe: what is cached depends on arguments alone."""

    def __init__(self, files: Iterable[GroupFile] = ()) -> None:
        """Take the files; raise `CallerError` E-POLICY if two have one id or name one group, or a member's code is unknown."""
        self._files = tuple(sorted(files, key=lambda file: file.id))
        self._known = frozenset(code for file in self._files for code in file.codes)
        self._file_of: dict[str, GroupFile] = {}
        if len({file.id for file in self._files}) != len(self._files):
            raise CallerError("E-POLICY", "two files of groups have one id")
        for file in self._files:
            for name, group in file.groups.items():
                if name in self._file_of:
                    raise CallerError("E-POLICY", f"the group {name} stands in {self._file_of[name].id} and in {file.id}")
                self._file_of[name] = file
                strange = next((member.code for member in group.members if not self.knows(member.code)), None)
                if strange is not None:
                    raise CallerError("E-POLICY", f"the group {name} of {file.id} has {strange}, which no file knows as a code")
        self._expanded: dict[tuple[tuple[str, ...], str], _Expanded] = {}

    @property
    def names(self) -> frozenset[str]:
        """The names of all groups."""
        return frozenset(self._file_of)

    @property
    def files(self) -> tuple[GroupFile, ...]:
        """The files, by id."""
        return self._files

    @property
    def have_codes(self) -> bool:
        """Whether a file says which codes there are."""
        return bool(self._known)

    def knows(self, code: str) -> bool:
        """Tell whether the code is one; of a part only the country is looked up, for parts change by the year."""
        return code in self._known or ("-" in code and code.partition("-")[0] in self._known)

    @cached_property
    def digest(self) -> Digest:
        """The SHA-256 of the canonical JSON of all files."""
        return Digest.of(canonical([file.to_json() for file in self._files]))

    def standing(self, code: str, names: tuple[str, ...], on: date | None) -> Standing:
        """Return where `code` stands towards all of the groups `names` together on the day `on`; None is a day nobody knows."""
        if on is None:
            return Standing.OUT_OF_DATE
        found = self._expand(names, on.isoformat())
        if not found.is_current:
            return Standing.OUT_OF_DATE
        if not self.knows(code):
            return Standing.UNKNOWN
        country = code.partition("-")[0]
        if code in found.codes or country in found.codes:
            return Standing.IN
        return Standing.PART_MISSING if code == country and country in found.parted else Standing.OUT

    def outdated(self, names: Iterable[str], on: date | None) -> list[str]:
        """Return, by id, the files of these groups that may not be relied upon on that day."""
        files = {self._file_of[name].id: self._file_of[name] for name in names if name in self._file_of}
        return sorted(id_ for id_, file in files.items() if on is None or not file.counts_on(on.isoformat()))

    def _expand(self, names: tuple[str, ...], day: str) -> _Expanded:
        found = self._expanded.get((names, day))
        if found is None:
            files = [self._file_of.get(name) for name in names]
            codes = frozenset(
                member.code
                for name, file in zip(names, files, strict=True)
                if file is not None
                for member in file.groups[name].members
                if member.counts_on(day)
            )
            found = _Expanded(
                all(file is not None and file.counts_on(day) for file in files),
                codes,
                frozenset(code.partition("-")[0] for code in codes if "-" in code),
            )
            if len(self._expanded) >= _CACHED_MAX:
                self._expanded.clear()
            self._expanded[names, day] = found
        return found


def parse_groups(text: str, name: str) -> GroupFile:
    """Return the file of groups in `text`; raise `CallerError` E-POLICY with `name` and line of the first mistake."""
    return parse_as(GroupFile, text, name)


NO_GROUPS: Final = Groups()
"""Where no groups are known: a rule that names one is a mistake."""
