"""What the catalog remembers of a passage, as values.

A passage is one use of one route by one delivery. Its two ends and each relay keep a record of it under the same id; `role` says
which of them this site is.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from carnet.identifiers import LaneName, PassageId, SiteName, TransferId
from carnet.letter import Direction
from carnet.trust import Carriage

Role = Literal["start", "relay", "end"]


@dataclass(frozen=True, kw_only=True)
class PassageRecord:
    """A passage at this site."""

    id: PassageId
    transfer: TransferId
    role: Role
    lane: LaneName
    way: tuple[SiteName, ...]
    """Origin, relays, destination."""
    before: SiteName | None
    """Who hands on to this site; nobody at the origin."""
    after: SiteName | None
    """Whom this site hands on to; nobody at the destination."""
    carriage: Carriage
    state: Literal["open", "failed", "ended"]
    created_at: datetime
    moved_at: datetime
    """When something last went on: a letter came, a segment was acknowledged."""
    deadline: datetime
    """By when what the slips name has to be handed on."""
    delete_by: datetime
    """By when nothing of it may be here any more."""
    slips: int = 0
    """How many slips there are, numbered from 0."""
    alarm: str | None = None
    """What the first alarm about this passage said; a neighbour that lies more often is not logged more often."""


@dataclass(frozen=True, kw_only=True)
class SlipRecord:
    """A slip of a passage: `taken` as it came from the site before, `signed` as it goes to the next, with its log entry."""

    passage: PassageId
    number: int
    taken: bytes | None
    signed: bytes | None
    entry: int | None
    passed: bool = False
    """The next site has it."""


@dataclass(frozen=True, kw_only=True)
class LetterRecord:
    """A letter of a passage. At the ends, a letter of our own that asks has `name`, `job` and, once it is here, the answer."""

    passage: PassageId
    direction: Direction
    number: int
    body: bytes = field(repr=False)
    """Sealed; emptied once it was passed on or opened."""
    slips: int = 0
    """How many slips must be carried out before it may go on."""
    due: bool = True
    """Still to be passed on, or at the end it is for, to be opened."""
    name: str | None = None
    """What it asks, so that a job that runs again finds it."""
    job: str | None = None
    """Kind and key, with a space between, of the job that is queued when the answer comes."""
    answered_at: datetime | None = None
    kind: str | None = None
    """The kind of the answer."""
    answer: bytes | None = field(default=None, repr=False)
    """Its body, opened and verified."""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """How many segments of some slips are still to come, and how many are here and to be handed on."""

    due: int = 0
    here: int = 0
    bytes_here: int = 0
