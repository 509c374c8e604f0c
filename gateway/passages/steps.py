"""The steps of a passage that more than one use case takes: begin, sign a slip, raise an alarm, fail, end.

Rules:      1. a slip leaves with its log entry  2. a passage has one alarm: a neighbour that goes on lying does not fill the log
            3. whoever awaits an answer of a passage that fails runs again
"""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.identifiers import LaneName, PassageId, SegmentId, SiteName, TransferId
from carnet.letter import Direction
from carnet.limits import TEXT_CHARS_MAX
from carnet.packing import SegmentList, SegmentSummary
from carnet.routing import RoutingSlip, encode_segments
from carnet.timestamps import format_time, parse_time
from carnet.trust import Route
from gateway.passage_records import PassageRecord, SlipRecord
from gateway.ports import Transaction
from gateway.services import Services
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger

_SLOWEST_BYTES_PER_S: Final = 1 << 18
"""A relay is given at least this much time for what a slip names, beside `relay_s`."""
_KEPT_AFTER_DEADLINE: Final = timedelta(days=1)


def begin_passage(
    tx: Transaction, services: Services, transfer: TransferId, lane: LaneName, route: Route, destination: SiteName
) -> PassageRecord:
    """Begin a passage at the origin with a first slip that carries nothing: the declaration goes ahead of the segments."""
    way = (services.site, *route.relays, destination)
    record = PassageRecord(
        id=PassageId(secrets.token_hex(16)),
        transfer=transfer,
        role="start",
        lane=lane,
        way=way,
        before=None,
        after=way[1],
        carriage=route.carriage,
        state="open",
        created_at=tx.now,
        moved_at=tx.now,
        deadline=tx.now,
        delete_by=tx.now,
    )
    tx.save_passage(record)
    return add_slip(tx, services, record, SegmentList.of(()))


def add_slip(tx: Transaction, services: Services, record: PassageRecord, segments: SegmentList) -> PassageRecord:
    """Sign the origin's next slip, for `segments`, which are here; return the passage as it is then."""
    time_s = services.bounds.relay_s + segments.bytes / _SLOWEST_BYTES_PER_S
    deadline = max(record.deadline, tx.now + timedelta(seconds=time_s))
    slip = RoutingSlip(
        transfer=record.transfer,
        passage=record.id,
        number=record.slips,
        lane=record.lane,
        way=record.way,
        site=record.way[1],
        carriage=record.carriage,
        deadline=format_time(deadline + timedelta(seconds=1)),
        delete_by=format_time(deadline + _KEPT_AFTER_DEADLINE),
        segments=encode_segments(segments),
        at=format_time(tx.now),
    )
    tx.carry(record.id, record.slips, segments, here=True)
    sign_slip(tx, services, record, slip, taken=None)
    record = replace(record, slips=record.slips + 1, deadline=deadline, delete_by=parse_time(slip.delete_by))
    tx.save_passage(record)
    return record


def withdraw_passage(tx: Transaction, services: Services, record: PassageRecord) -> None:
    """At the origin: have every relay delete what it holds of the passage, by a slip whose delete-by is now."""
    now = format_time(tx.now)
    slip = RoutingSlip(
        transfer=record.transfer,
        passage=record.id,
        number=record.slips,
        lane=record.lane,
        way=record.way,
        site=record.way[1],
        carriage=record.carriage,
        deadline=now,
        delete_by=now,
        segments="",
        at=now,
    )
    tx.drop_carried(record.id)
    sign_slip(tx, services, record, slip, taken=None)
    tx.save_passage(replace(record, slips=record.slips + 1))


def sign_slip(tx: Transaction, services: Services, record: PassageRecord, slip: RoutingSlip, *, taken: bytes | None) -> None:
    """Sign `slip`, log it and queue its sending (rule 1)."""
    fields: dict[str, JsonValue] = {
        "transfer": record.transfer,
        "passage": record.id,
        "to": slip.site,
        "slip": slip.digest,
        "segments": SegmentSummary.of(slip.segment_list()).to_json(),
    }
    entry = tx.append(EntryType.SLIP_SIGNED, fields)
    signed = slip.sign(services.keyring.signing).encode()
    tx.save_slip(SlipRecord(passage=record.id, number=slip.number, taken=taken, signed=signed, entry=entry))
    tx.queue_job("pass-on", record.id)


def raise_alarm(tx: Transaction, record: PassageRecord, relays: Iterable[SiteName], why: str) -> PassageRecord:
    """Log that `relays` did what they should not, once a passage (rule 2); return the passage as it is then."""
    current = tx.passage(record.id) or record
    if current.alarm is not None:
        return current
    named: list[JsonValue] = [str(relay) for relay in relays]
    tx.append(
        EntryType.ALARM,
        {"transfer": record.transfer, "passage": record.id, "lane": record.lane, "relays": named, "why": why[:TEXT_CHARS_MAX]},
    )
    get_logger().error(events.RELAY_ALARM, passage=record.id, relays=named, why=why)
    current = replace(current, alarm=why[:TEXT_CHARS_MAX])
    tx.save_passage(current)
    return current


def fail_passage(tx: Transaction, record: PassageRecord, why: str) -> None:
    """Give up a passage at one of its ends, with an alarm that names its relays; whoever awaits it runs again (rule 3)."""
    current = tx.passage(record.id)
    if current is None or current.state != "open":
        return
    current = raise_alarm(tx, current, current.way[1:-1], why)
    tx.save_passage(replace(current, state="failed", moved_at=tx.now))
    direction = Direction.ONWARD if record.role == "start" else Direction.BACK
    for number in range(tx.next_letter(record.id, direction)):
        letter = tx.letter(record.id, direction, number)
        if letter is not None and letter.job is not None and letter.answered_at is None:
            kind, _, key = letter.job.partition(" ")
            tx.queue_job(kind, key)


def end_passage(tx: Transaction, record: PassageRecord, why: str) -> list[SegmentId]:
    """End a passage: its letters and claims go; return the segments that nobody needs any more (to delete them)."""
    left = tx.drop_carried(record.id)
    tx.drop_letters(record.id)
    tx.save_passage(replace(record, state="ended", moved_at=tx.now))
    tx.append(EntryType.PASSAGE_ENDED, {"transfer": record.transfer, "passage": record.id, "why": why})
    if left and record.role == "relay":
        tx.append(EntryType.SEGMENTS_DELETED, {"transfer": record.transfer, "passage": record.id, "count": len(left)})
    return left


def log_segments(tx: Transaction, kind: EntryType, record: PassageRecord, slip: int, site: SiteName | None) -> None:
    """Log that the segments of a slip all came, went or were deleted: the custody of this site."""
    summary = SegmentSummary.of(tx.slip_segments(record.id, slip))
    if summary.count:
        tx.append(
            kind,
            {
                "transfer": record.transfer,
                "passage": record.id,
                "slip": slip,
                "site": site,
                "segments": summary.to_json(),
            },
        )
