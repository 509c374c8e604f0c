"""Hands on what a passage holds to the neighbours: jobs that survive any crash, at the origin, each relay and the destination.

Onward, in this order: slips as they are numbered; a letter once all segments before it are acknowledged; segments, each
slip's after those of the slip before; in `store` carriage not before all of the slip are here. Back go letters alone.

Rules:      1. what was acknowledged is not sent again  2. a relay deletes a segment once the next site has acknowledged it, in
            `store` carriage once all of its slip are there  3. at the origin a refusal fails the passage, a pause does not
"""

from collections.abc import Awaitable
from dataclasses import dataclass, replace
from typing import Final

from carnet.entries import EntryType
from carnet.errors import CarnetError, InternalError, Unavailable
from carnet.flow.client import PeerClient
from carnet.identifiers import PassageId, SegmentId
from carnet.letter import Direction
from carnet.messages import SlipRequest
from carnet.trust import Carriage
from gateway import documents
from gateway.courier import in_parallel
from gateway.passage_records import LetterRecord, PassageRecord, SlipRecord
from gateway.passages.steps import fail_passage, log_segments
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

_SEGMENTS_A_ROUND: Final = 256


@dataclass(frozen=True)
class _Next:
    """What may go next: one of a slip, a letter, segments of one slip."""

    record: PassageRecord
    slip: SlipRecord | None = None
    letter: LetterRecord | None = None
    segments: dict[SegmentId, int] | None = None


class Passing:
    """Handles `pass-on` and `pass-back` jobs; the key is the passage id."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def on(self, job: JobRecord) -> None:
        """Hand everything that may go to the next site; the rest waits until this is queued again."""
        passage = PassageId(job.key)
        while (following := await self._services.catalog.read(lambda tx: _next(tx, passage))) is not None:
            record = following.record
            if following.slip is not None:
                await self._pass_slip(record, following.slip)
            elif following.letter is not None:
                await self._pass_letter(record, following.letter)
            elif following.segments:
                await self._pass_segments(record, following.segments)

    async def back(self, job: JobRecord) -> None:
        """Hand the letters that go back to the site before."""
        passage = PassageId(job.key)

        def look(tx: Transaction) -> _Next | None:
            record = tx.passage(passage)
            letter = None if record is None or record.state == "ended" else tx.letter_due(passage, Direction.BACK)
            return None if record is None or letter is None else _Next(record, letter=letter)

        while (following := await self._services.catalog.read(look)) is not None:
            if following.letter is not None:
                await self._pass_letter(following.record, following.letter)

    async def _pass_slip(self, record: PassageRecord, slip: SlipRecord) -> None:
        services = self._services
        if slip.signed is None or slip.entry is None:
            raise InternalError("E-INTERNAL", f"slip {slip.number} of passage {record.id} was never signed")
        proof = await services.log.prove(slip.entry, ("passage", "slip"))
        request = SlipRequest(
            slip=documents.envelope_json(slip.signed),
            proof=proof,
            revocations=services.trust.own_revocations().revocations,
        )
        await self._hand_over(record, self._client(record, Direction.ONWARD).pass_slip(record.id, request))
        await services.catalog.write(lambda tx: tx.save_slip(replace(slip, passed=True)))

    async def _pass_letter(self, record: PassageRecord, letter: LetterRecord) -> None:
        client = self._client(record, letter.direction)
        sending = client.pass_letter(record.id, letter.direction, letter.number, letter.slips, letter.body)
        await self._hand_over(record, sending)

        def note(tx: Transaction) -> None:
            current = tx.letter(record.id, letter.direction, letter.number)
            if current is not None:  # it may be answered already
                tx.save_letter(replace(current, due=False, body=b""))

        await self._services.catalog.write(note)

    async def _pass_segments(self, record: PassageRecord, segments: dict[SegmentId, int]) -> None:
        services, client = self._services, self._client(record, Direction.ONWARD)

        async def send(segment: SegmentId) -> int:
            data = await services.store.get(segment)
            await self._hand_over(record, client.pass_segment(record.id, segment, data))
            orphans = await services.catalog.write(lambda tx: _passed(tx, record, segment))
            await services.remove_unneeded(orphans)
            return len(data)

        await in_parallel(segments, send, _uncounted, client.slots)

    def _client(self, record: PassageRecord, direction: Direction) -> PeerClient:
        site = record.after if direction is Direction.ONWARD else record.before
        if site is None:
            raise InternalError("E-INTERNAL", f"passage {record.id} has nobody to hand on to")
        return self._services.peer(site)

    async def _hand_over(self, record: PassageRecord, sending: Awaitable[object]) -> None:
        """Await what the neighbour answers; at the origin, a refusal fails the passage (rule 3)."""
        try:
            await sending
        except Unavailable:
            raise
        except CarnetError as error:
            if record.role == "start":
                problem = f"{record.after} refuses: {error.problem}"
                await self._services.catalog.write(lambda tx: fail_passage(tx, record, problem))
            raise


async def _uncounted(_segments: int, _sent: int) -> None:
    """Count nothing: each segment was counted with its acknowledgement."""


def _next(tx: Transaction, passage: PassageId) -> _Next | None:
    """Return what may go onward now, or None."""
    record = tx.passage(passage)
    if record is None or record.state != "open" or record.after is None:
        return None
    slip = tx.slip_due(passage)
    if slip is not None:
        return _Next(record, slip=slip)
    letter = tx.letter_due(passage, Direction.ONWARD)
    if letter is not None:
        before = tx.carried_count(passage, first=0, before=letter.slips)
        if before.due == before.here == 0:
            return _Next(record, letter=letter)
    first = tx.first_slip_here(passage, before=record.slips)
    if first is None:
        return None
    if record.carriage is Carriage.STORE and tx.carried_count(passage, first=first, before=first + 1).due:
        return None
    return _Next(record, segments=tx.carried_here(passage, first, limit=_SEGMENTS_A_ROUND))


def _passed(tx: Transaction, record: PassageRecord, segment: SegmentId) -> list[SegmentId]:
    """Note that the next site has the segment; return what this site need not keep any more (rule 2)."""
    named = tx.carried(record.id, segment)
    if named is None or not tx.pass_carried(record.id, segment):
        return []
    size, _, slip = named
    current = tx.passage(record.id)
    if current is not None:
        tx.save_passage(replace(current, moved_at=tx.now))
    left = tx.carried_count(record.id, first=slip, before=slip + 1)
    is_whole = left.due == left.here == 0
    if is_whole:
        log_segments(tx, EntryType.SEGMENTS_SENT, record, slip, record.after)
    if record.role == "start":
        _count(tx, record, size)
        return []
    if record.carriage is Carriage.TRANSIT:
        orphans = tx.forget_unneeded([segment])
    else:
        orphans = tx.forget_unneeded(one for one, _ in tx.slip_segments(record.id, slip)) if is_whole else []
    if is_whole:
        log_segments(tx, EntryType.SEGMENTS_DELETED, record, slip, None)
    return orphans


def _count(tx: Transaction, record: PassageRecord, size: int) -> None:
    for delivery in tx.deliveries(record.transfer):
        if delivery.destination == record.way[-1]:
            tx.save_delivery(replace(delivery, segments_sent=delivery.segments_sent + 1, bytes_sent=delivery.bytes_sent + size))
