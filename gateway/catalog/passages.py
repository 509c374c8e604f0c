"""Passages, their slips and letters, and the segments they carry, as rows."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import and_, bindparam, case, delete, exists, func, literal, select, true, update

from carnet.identifiers import LaneName, PassageId, SegmentId, SiteName, TransferId
from carnet.letter import Direction
from carnet.packing import SegmentList
from carnet.trust import Carriage
from gateway.catalog import schema
from gateway.catalog.session import Session, Value, from_micros, optional_micros, optional_time, to_json, to_micros
from gateway.catalog.statements import LIMIT, Statement, insert_or_ignore, upsert
from gateway.passage_records import Carried, LetterRecord, PassageRecord, SlipRecord

_PASSAGES_MAX = 1_000
_p = schema.passages.c
_s = schema.slips.c
_c = schema.carried_segments.c
_l = schema.letters.c
_g = schema.segments.c
_SAVE = upsert(schema.passages)
_GET = Statement(select(schema.passages).where(_p.id == bindparam("id")))
_OF_TRANSFER = Statement(
    select(schema.passages).where(_p.transfer == bindparam("transfer")).order_by(_p.created_at.desc()).limit(LIMIT)
)
_OVERDUE = Statement(
    select(schema.passages)
    .where(_p.state.in_([literal("open"), literal("failed")]), _p.delete_by <= bindparam("now"))
    .order_by(_p.delete_by)
    .limit(LIMIT)
)
_FAILED = Statement(
    select(schema.passages)
    .where(_p.lane == bindparam("lane"), _p.state == "failed", _p.moved_at > bindparam("since"), _p.role == "start")
    .order_by(_p.moved_at.desc())
    .limit(LIMIT)
)
_LOAD = Statement(
    select(func.count().label("passages")).where(
        _p.before == bindparam("before"), _p.state == "open", _p.moved_at > bindparam("since")
    )
)
_LOAD_BYTES = Statement(
    select(func.coalesce(func.sum(_c.size), 0).label("bytes"))
    .join(schema.passages, _p.id == _c.passage)
    .where(_p.before == bindparam("before"), _p.state == "open", _p.role == "relay", _c.state != "passed")
)
_LETTER_BYTES = Statement(
    select(func.coalesce(func.sum(func.length(_l.body)), 0).label("bytes"))
    .join(schema.passages, _p.id == _l.passage)
    .where(_p.before == bindparam("before"), _p.state == "open", _p.role == "relay", _l.due)
)

_SAVE_SLIP = upsert(schema.slips)
_SLIP = Statement(select(schema.slips).where(_s.passage == bindparam("passage"), _s.number == bindparam("number")))
_SLIP_DUE = Statement(
    select(schema.slips).where(_s.passage == bindparam("passage"), _s.passed.is_not(true())).order_by(_s.number).limit(LIMIT)
)

_CARRY = insert_or_ignore(schema.carried_segments)
_CARRIED = Statement(
    select(_c.size, _c.state, _c.slip).where(_c.passage == bindparam("passage"), _c.segment == bindparam("segment"))
)
_SET = Statement(
    update(schema.carried_segments)
    .where(_c.passage == bindparam("passage"), _c.segment == bindparam("segment"), _c.state != bindparam("new"))
    .values(state=bindparam("new"))
)
_COUNTS = select(
    func.coalesce(func.sum(case((_c.state == "due", 1), else_=0)), 0).label("due"),
    func.coalesce(func.sum(case((_c.state == "here", 1), else_=0)), 0).label("here"),
    func.coalesce(func.sum(case((_c.state == "here", _c.size), else_=0)), 0).label("bytes_here"),
).where(
    _c.passage == bindparam("passage"),
    _c.state.in_([literal("due"), literal("here")]),
    _c.slip < bindparam("before"),
    _c.slip >= bindparam("first"),
)
_COUNT = Statement(_COUNTS)
_HERE = Statement(
    select(_c.segment, _c.size)
    .where(_c.passage == bindparam("passage"), _c.slip == bindparam("slip"), _c.state == "here")
    .order_by(_c.segment)
    .limit(LIMIT)
)
_OF_PASSAGE = Statement(select(_c.segment, _c.size).where(_c.passage == bindparam("passage"), _c.slip == bindparam("slip")))
_OPEN_SLIP = Statement(
    select(func.min(_c.slip).label("slip")).where(
        _c.passage == bindparam("passage"), _c.state == "here", _c.slip < bindparam("before")
    )
)
_ADD_SEGMENT = insert_or_ignore(schema.segments)
_HELD = and_(_c.segment == _g.id, _c.state == "here")
_UNNEEDED = Statement(
    delete(schema.segments)
    .where(
        _g.id == bindparam("segment"),
        ~exists().where(schema.transfer_segments.c.segment == _g.id),
        ~exists().where(_HELD),
    )
    .returning(_g.id)
)
_DROP = Statement(delete(schema.carried_segments).where(_c.passage == bindparam("passage")))
_ALL_CARRIED = Statement(select(_c.segment).where(_c.passage == bindparam("passage")))

_SAVE_LETTER = upsert(schema.letters)
_WHERE_LETTER = and_(_l.passage == bindparam("passage"), _l.direction == bindparam("direction"))
_LETTER = Statement(select(schema.letters).where(_WHERE_LETTER, _l.number == bindparam("number")))
_LAST_LETTER = Statement(select(func.max(_l.number).label("number")).where(_WHERE_LETTER))
_LETTER_DUE = Statement(select(schema.letters).where(_WHERE_LETTER, _l.due).order_by(_l.number).limit(LIMIT))
_NAMED = Statement(select(schema.letters).where(_l.passage == bindparam("passage"), _l.name == bindparam("name")).limit(1))
_DROP_LETTERS = Statement(delete(schema.letters).where(_l.passage == bindparam("passage")))


class Passages(Session):
    """The passages' part of `Transaction`."""

    def passage(self, passage: PassageId) -> PassageRecord | None:
        """Return the passage, or None."""
        row = self._one(_GET, id=passage)
        return None if row is None else _passage_of(row)

    def save_passage(self, record: PassageRecord) -> None:
        """Insert or replace the passage's row."""
        self._run(
            _SAVE,
            id=record.id,
            transfer=record.transfer,
            role=record.role,
            lane=record.lane,
            way=to_json(list(record.way)),
            before=record.before,
            after=record.after,
            carriage=record.carriage.value,
            state=record.state,
            created_at=to_micros(record.created_at),
            moved_at=to_micros(record.moved_at),
            deadline=to_micros(record.deadline),
            delete_by=to_micros(record.delete_by),
            slips=record.slips,
            alarm=record.alarm,
        )

    def passages_of(self, transfer: TransferId) -> list[PassageRecord]:
        """Return the passages of a transfer, newest first."""
        return [_passage_of(row) for row in self._all(_OF_TRANSFER, transfer=transfer, limit=_PASSAGES_MAX)]

    def overdue_passages(self, *, limit: int) -> list[PassageRecord]:
        """Return passages that should be gone at `now`, longest overdue first."""
        return [_passage_of(row) for row in self._all(_OVERDUE, now=to_micros(self.now), limit=limit)]

    def failed_passages(self, lane: LaneName, since: datetime) -> list[PassageRecord]:
        """Return the lane's passages from here that failed after `since`, newest first."""
        return [_passage_of(row) for row in self._all(_FAILED, lane=lane, since=to_micros(since), limit=_PASSAGES_MAX)]

    def relay_load(self, before: SiteName, since: datetime) -> tuple[int, int]:
        """Return how many passages of `before` moved after `since`, and the bytes this site holds or has promised to take."""
        passages = self._one(_LOAD, before=before, since=to_micros(since))
        carried, letters = (self._one(statement, before=before) for statement in (_LOAD_BYTES, _LETTER_BYTES))
        assert passages is not None and carried is not None and letters is not None  # noqa: S101, PT018 - aggregates have a row
        return passages["passages"], carried["bytes"] + letters["bytes"]

    # slips

    def slip(self, passage: PassageId, number: int) -> SlipRecord | None:
        """Return a slip, or None."""
        row = self._one(_SLIP, passage=passage, number=number)
        return None if row is None else _slip_of(row)

    def slip_due(self, passage: PassageId) -> SlipRecord | None:
        """Return the first slip that the next site does not have, or None."""
        row = self._one(_SLIP_DUE, passage=passage, limit=1)
        return None if row is None else _slip_of(row)

    def save_slip(self, record: SlipRecord) -> None:
        """Insert or replace a slip."""
        self._run(
            _SAVE_SLIP,
            passage=record.passage,
            number=record.number,
            taken=record.taken,
            signed=record.signed,
            entry=record.entry,
            passed=record.passed,
        )

    # segments

    def carry(self, passage: PassageId, slip: int, segments: Iterable[tuple[SegmentId, int]], *, here: bool) -> None:
        """Note what a slip names: to come, or `here` already. What an earlier slip named stays as it is."""
        state = "here" if here else "due"
        rows: Iterable[Mapping[str, Value]] = (
            {"passage": passage, "segment": one.binary, "slip": slip, "size": size, "state": state} for one, size in segments
        )
        self._run_many(_CARRY, rows)

    def carried(self, passage: PassageId, segment: SegmentId) -> tuple[int, str, int] | None:
        """Return size, state and slip of a segment that a slip of the passage names, or None."""
        row = self._one(_CARRIED, passage=passage, segment=segment.binary)
        return None if row is None else (row["size"], row["state"], row["slip"])

    def keep_carried(self, passage: PassageId, segment: SegmentId, size: int) -> None:
        """Record that the segment is durable here."""
        self._run(_ADD_SEGMENT, id=segment.binary, size=size)
        self._run(_SET, passage=passage, segment=segment.binary, new="here")

    def pass_carried(self, passage: PassageId, segment: SegmentId) -> bool:
        """Record that the next site has the segment; False if it was recorded already."""
        return self._run(_SET, passage=passage, segment=segment.binary, new="passed").rowcount == 1

    def carried_count(self, passage: PassageId, *, first: int, before: int) -> Carried:
        """Return which segments of the slips from `first` up to `before` the next site does not have."""
        row = self._one(_COUNT, passage=passage, first=first, before=before)
        return Carried() if row is None else Carried(**dict(row))

    def first_slip_here(self, passage: PassageId, *, before: int) -> int | None:
        """Return the first slip below `before` of which segments are here and not passed, or None."""
        row = self._one(_OPEN_SLIP, passage=passage, before=before)
        return None if row is None else row["slip"]

    def carried_here(self, passage: PassageId, slip: int, *, limit: int) -> dict[SegmentId, int]:
        """Return segments of the slip that are here and not passed, with their sizes."""
        found = self._all(_HERE, passage=passage, slip=slip, limit=limit)
        return {SegmentId.from_binary(row["segment"]): row["size"] for row in found}

    def slip_segments(self, passage: PassageId, slip: int) -> SegmentList:
        """Return what was noted for a slip, wherever it is."""
        found = self._all(_OF_PASSAGE, passage=passage, slip=slip)
        return SegmentList.of((SegmentId.from_binary(row["segment"]), row["size"]) for row in found)

    def forget_unneeded(self, segments: Iterable[SegmentId]) -> list[SegmentId]:
        """Forget and return those that no transfer has and no passage holds (to delete them)."""
        found: list[SegmentId] = []
        for segment in segments:
            row = self._one(_UNNEEDED, segment=segment.binary)
            if row is not None:
                found.append(SegmentId.from_binary(row["id"]))
        return found

    def drop_carried(self, passage: PassageId) -> list[SegmentId]:
        """Drop the passage's claims; return and forget the segments that nobody needs now (to delete them)."""
        carried = [SegmentId.from_binary(row["segment"]) for row in self._all(_ALL_CARRIED, passage=passage)]
        self._run(_DROP, passage=passage)
        return self.forget_unneeded(carried)

    # letters

    def drop_letters(self, passage: PassageId) -> None:
        """Forget every letter of the passage."""
        self._run(_DROP_LETTERS, passage=passage)

    def letter(self, passage: PassageId, direction: Direction, number: int) -> LetterRecord | None:
        """Return a letter, or None."""
        row = self._one(_LETTER, passage=passage, direction=direction.value, number=number)
        return None if row is None else _letter_of(row)

    def next_letter(self, passage: PassageId, direction: Direction) -> int:
        """Return the number of the next letter in this direction."""
        row = self._one(_LAST_LETTER, passage=passage, direction=direction.value)
        return 0 if row is None or row["number"] is None else row["number"] + 1

    def letter_due(self, passage: PassageId, direction: Direction) -> LetterRecord | None:
        """Return the first letter that is still to be passed on or opened, or None."""
        row = self._one(_LETTER_DUE, passage=passage, direction=direction.value, limit=1)
        return None if row is None else _letter_of(row)

    def letter_named(self, passage: PassageId, name: str) -> LetterRecord | None:
        """Return our own letter that asks `name`, or None."""
        row = self._one(_NAMED, passage=passage, name=name)
        return None if row is None else _letter_of(row)

    def save_letter(self, record: LetterRecord) -> None:
        """Insert or replace a letter."""
        self._run(
            _SAVE_LETTER,
            passage=record.passage,
            direction=record.direction.value,
            number=record.number,
            body=record.body,
            slips=record.slips,
            due=record.due,
            name=record.name,
            job=record.job,
            answered_at=optional_micros(record.answered_at),
            kind=record.kind,
            answer=record.answer,
        )


def _passage_of(row: sqlite3.Row) -> PassageRecord:
    return PassageRecord(
        id=PassageId(row["id"]),
        transfer=TransferId(row["transfer"]),
        role=row["role"],
        lane=LaneName(row["lane"]),
        way=tuple(SiteName(site) for site in json.loads(row["way"])),
        before=None if row["before"] is None else SiteName(row["before"]),
        after=None if row["after"] is None else SiteName(row["after"]),
        carriage=Carriage(row["carriage"]),
        state=row["state"],
        created_at=from_micros(row["created_at"]),
        moved_at=from_micros(row["moved_at"]),
        deadline=from_micros(row["deadline"]),
        delete_by=from_micros(row["delete_by"]),
        slips=row["slips"],
        alarm=row["alarm"],
    )


def _slip_of(row: sqlite3.Row) -> SlipRecord:
    return SlipRecord(
        passage=PassageId(row["passage"]),
        number=row["number"],
        taken=row["taken"],
        signed=row["signed"],
        entry=row["entry"],
        passed=bool(row["passed"]),
    )


def _letter_of(row: sqlite3.Row) -> LetterRecord:
    return LetterRecord(
        passage=PassageId(row["passage"]),
        direction=Direction(row["direction"]),
        number=row["number"],
        body=row["body"],
        slips=row["slips"],
        due=bool(row["due"]),
        name=row["name"],
        job=row["job"],
        answered_at=optional_time(row["answered_at"]),
        kind=row["kind"],
        answer=row["answer"],
    )
