"""What use cases ask of the catalog about passages: a part of `gateway.ports.Transaction`, kept apart because it is long."""

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol

from carnet.identifiers import LaneName, PassageId, SegmentId, SiteName, TransferId
from carnet.letter import Direction
from carnet.packing import SegmentList
from gateway.passage_records import Carried, LetterRecord, PassageRecord, SlipRecord


class PassageRows(Protocol):
    """Passages with their slips and letters, and the segments they carry."""

    def passage(self, passage: PassageId) -> PassageRecord | None:
        """Return the passage, or None."""
        ...

    def save_passage(self, record: PassageRecord) -> None:
        """Insert or replace the passage's row."""
        ...

    def passages_of(self, transfer: TransferId) -> list[PassageRecord]:
        """Return the passages of a transfer, newest first."""
        ...

    def overdue_passages(self, *, limit: int) -> list[PassageRecord]:
        """Return passages that should be gone at `now`, longest overdue first."""
        ...

    def failed_passages(self, lane: LaneName, since: datetime) -> list[PassageRecord]:
        """Return the lane's passages from here that failed after `since`, newest first."""
        ...

    def relay_load(self, before: SiteName, since: datetime) -> tuple[int, int]:
        """Return how many passages of `before` moved after `since`, and the bytes this site holds or has promised to take."""
        ...

    def slip(self, passage: PassageId, number: int) -> SlipRecord | None:
        """Return a slip, or None."""
        ...

    def slip_due(self, passage: PassageId) -> SlipRecord | None:
        """Return the first slip that the next site does not have, or None."""
        ...

    def save_slip(self, record: SlipRecord) -> None:
        """Insert or replace a slip."""
        ...

    def carry(self, passage: PassageId, slip: int, segments: Iterable[tuple[SegmentId, int]], *, here: bool) -> None:
        """Note what a slip names: to come, or `here` already. What an earlier slip named stays as it is."""
        ...

    def carried(self, passage: PassageId, segment: SegmentId) -> tuple[int, str, int] | None:
        """Return size, state and slip of a segment that a slip of the passage names, or None."""
        ...

    def keep_carried(self, passage: PassageId, segment: SegmentId, size: int) -> None:
        """Record that the segment is durable here."""
        ...

    def pass_carried(self, passage: PassageId, segment: SegmentId) -> bool:
        """Record that the next site has the segment; False if it was recorded already."""
        ...

    def carried_count(self, passage: PassageId, *, first: int, before: int) -> Carried:
        """Return which segments of the slips from `first` up to `before` the next site does not have."""
        ...

    def first_slip_here(self, passage: PassageId, *, before: int) -> int | None:
        """Return the first slip below `before` of which segments are here and not passed, or None."""
        ...

    def carried_here(self, passage: PassageId, slip: int, *, limit: int) -> dict[SegmentId, int]:
        """Return segments of the slip that are here and not passed, with their sizes."""
        ...

    def slip_segments(self, passage: PassageId, slip: int) -> SegmentList:
        """Return what was noted for a slip, wherever it is."""
        ...

    def forget_unneeded(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Forget and return those that no transfer has and no passage holds (to delete them)."""
        ...

    def drop_carried(self, passage: PassageId) -> list[SegmentId]:
        """Drop the passage's claims; return and forget the segments that nobody needs now (to delete them)."""
        ...

    def drop_letters(self, passage: PassageId) -> None:
        """Forget every letter of the passage."""
        ...

    def letter(self, passage: PassageId, direction: Direction, number: int) -> LetterRecord | None:
        """Return a letter, or None."""
        ...

    def next_letter(self, passage: PassageId, direction: Direction) -> int:
        """Return the number of the next letter in this direction."""
        ...

    def letter_due(self, passage: PassageId, direction: Direction) -> LetterRecord | None:
        """Return the first letter that is still to be passed on or opened, or None."""
        ...

    def letter_named(self, passage: PassageId, name: str) -> LetterRecord | None:
        """Return our own letter that asks `name`, or None."""
        ...

    def save_letter(self, record: LetterRecord) -> None:
        """Insert or replace a letter."""
        ...
