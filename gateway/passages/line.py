"""The line over relays: questions to the far site as letters, segments under slips; answers, or `Awaiting`.

Every call may be made again at any time: a question is known by its name, and asked once. What counts is the far site's
signed answer, never the word of a relay: one that loses what it acknowledged or lets the deadline pass fails the passage, is
named in an alarm, and the next call goes another way.

Rules:      1. the far site's answer to a commit says what is there; what it misses of the slips was lost by the relays
            2. no answer by the deadline is a failure like any other  3. after a problem the question may be asked anew
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from carnet.encoding import JsonValue, canonical
from carnet.errors import PeerError, Unavailable
from carnet.identifiers import SegmentId
from carnet.letter import LetterKind
from carnet.limits import SLIP_SEGMENTS_MAX
from carnet.messages import ForwardRequest, ForwardResponse, KeyReleaseMessage, Problem, RecallMessage, SiteMessage
from carnet.packing import SegmentList
from carnet.problems import error_of
from gateway.courier import Count
from gateway.passage_records import LetterRecord, PassageRecord
from gateway.passages.post import post
from gateway.passages.steps import add_slip, fail_passage, withdraw_passage
from gateway.ports import Awaiting, Transaction
from gateway.records import JobRecord
from gateway.services import Services


class Relayed:
    """Implements `Line` over an open passage, at either end of it."""

    def __init__(self, services: Services, passage: PassageRecord, job: JobRecord) -> None:
        """Speak over `passage`; `job` is queued when an answer comes."""
        self._services = services
        self._passage = passage
        self._job = f"{job.kind} {job.key}"

    async def declare(self, request: ForwardRequest) -> ForwardResponse:
        """Declare the transfer; see `Line`."""
        return ForwardResponse.parse(await self._ask("declare", LetterKind.DECLARE, request.encode()))

    async def send(self, segments: Mapping[SegmentId, int], count: Count) -> None:
        """Put what no slip names yet on slips; the job `pass-on` sends it. See `Line`."""
        await count(0, 0)

        def sign(tx: Transaction) -> None:
            record = tx.passage(self._passage.id) or self._passage
            fresh = [(one, size) for one, size in segments.items() if tx.carried(record.id, one) is None]
            for start in range(0, len(fresh), SLIP_SEGMENTS_MAX):
                record = add_slip(tx, self._services, record, SegmentList.of(fresh[start : start + SLIP_SEGMENTS_MAX]))

        await self._services.catalog.write(sign)

    async def commit(self) -> ForwardResponse:
        """End the sending; see `Line`. What the other site misses of the slips is a lie of the relays (rule 1)."""
        slips = await self._services.catalog.read(lambda tx: (tx.passage(self._passage.id) or self._passage).slips)
        response = ForwardResponse.parse(await self._ask(f"commit/{slips}", LetterKind.COMMIT, b""))

        def look(tx: Transaction) -> list[SegmentId]:
            named = ((one, tx.carried(self._passage.id, one)) for one in response.missing)
            return [one for one, found in named if found is not None and found[2] < slips]

        lost = await self._services.catalog.read(look)
        if lost:
            await self._fail(f"{len(lost)} segments were acknowledged and never arrived, the first is {lost[0]}")
        return response

    async def message(self, message: SiteMessage) -> None:
        """Have the other site take a message; see `Line`.

        A key that was taken is followed by a receipt or a decision: until one comes the job stays, and by the deadline it fails.
        """
        name = _name_of(message)
        if isinstance(message.body, RecallMessage):
            await self._services.catalog.write(lambda tx: self._withdraw(tx, name))
        await self._ask(name, LetterKind.MESSAGE, message.encode())
        if isinstance(message.body, KeyReleaseMessage):
            asked = await self._services.catalog.read(lambda tx: tx.letter_named(self._passage.id, name))
            since = asked.answered_at if asked is not None and asked.answered_at is not None else self._services.clock.now()
            await self._wait("the key was taken, and no receipt or decision came", since + self._patience)

    def _withdraw(self, tx: Transaction, name: str) -> None:
        """At the origin, once: what is recalled is not carried any further, and relays delete what they hold of it."""
        record = tx.passage(self._passage.id)
        if record is not None and record.role == "start" and record.state == "open" and tx.letter_named(record.id, name) is None:
            withdraw_passage(tx, self._services, record)

    @property
    def _patience(self) -> timedelta:
        return timedelta(seconds=self._services.bounds.relay_s)

    async def _ask(self, name: str, kind: LetterKind, body: bytes) -> bytes:
        """Return the answer to a question asked earlier, or ask it.

        Raises:
            Awaiting: it is on its way. Unavailable: E-RELAY after the deadline. CarnetError: what the other site raised.
        """
        services, passage = self._services, self._passage.id
        record, asked = await services.catalog.read(lambda tx: (tx.passage(passage), tx.letter_named(passage, name)))
        if record is None or record.state != "open":
            raise Unavailable("E-RELAY", f"passage {passage} over {_over(self._passage)} is over")
        if asked is None:
            await post(services, record, kind, body, name=name, job=self._job)
            raise Awaiting(f"an answer over {_over(record)}", services.bounds.relay_s)
        if asked.answered_at is None or asked.answer is None:
            moved = await services.catalog.read(lambda tx: tx.passage(passage)) or record
            await self._wait(f"no answer to `{name}`", max(moved.moved_at + self._patience, moved.deadline))
        return await self._read(asked)

    async def _read(self, asked: LetterRecord) -> bytes:
        if asked.kind == LetterKind.PROBLEM:
            # The next run asks anew (rule 3): what was wrong there may have been put right.
            await self._services.catalog.write(lambda tx: _unname(tx, asked))
            raise error_of(Problem.parse(asked.answer or b""))
        if asked.answer is None or asked.kind not in {LetterKind.ANSWER, LetterKind.TAKEN}:
            raise PeerError("E-REQUEST", f"the answer to `{asked.name}` is of kind {asked.kind}")
        return asked.answer

    async def _wait(self, what: str, until: datetime) -> None:
        """Raise `Awaiting`, or fail the passage if `until` is over (rule 2)."""
        left = (until - self._services.clock.now()).total_seconds()
        if left <= 0:
            await self._fail(what)
        raise Awaiting(f"{what} yet, over {_over(self._passage)}", left)

    async def _fail(self, why: str) -> None:
        """Give the passage up and raise `Unavailable` E-RELAY naming its relays."""
        await self._services.catalog.write(lambda tx: fail_passage(tx, self._passage, why))
        raise Unavailable("E-RELAY", f"relay {_over(self._passage)}: {why}")


def _over(record: PassageRecord) -> str:
    return ", ".join(record.way[1:-1])


def _unname(tx: Transaction, asked: LetterRecord) -> None:
    current = tx.letter(asked.passage, asked.direction, asked.number)
    if current is not None:
        tx.save_letter(replace(current, name=None, job=None))


def _name_of(message: SiteMessage) -> str:
    """Return a name that is the same for the same message, whenever its proof was made."""
    said = _without_proofs(message.body.model_dump(mode="json", exclude_none=True))
    return f"{message.body.kind}/{hashlib.sha256(canonical(said)).hexdigest()[:32]}"


def _without_proofs(value: JsonValue) -> JsonValue:
    if isinstance(value, Mapping):
        return {name: _without_proofs(part) for name, part in value.items() if name != "proof"}
    if isinstance(value, list | tuple):
        return [_without_proofs(part) for part in value]
    return value
