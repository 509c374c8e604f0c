"""Opens the letters that arrive at an end of a passage: questions are put to this site's use cases, answers to who asked.

The sender is whoever signed the letter inside, never the relay that brought it. A letter that does not open is an alarm about the
relays; the question that was in it stays unanswered, and the origin notices by its deadline.

Rules:      1. letters are opened in their order  2. a question is answered in the transaction that marks it opened; asked
            twice, it has the same effect  3. a temporary failure here leaves the letter for the next run, any other is the answer
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from carnet.errors import CarnetError, PeerError, Unavailable
from carnet.identifiers import PassageId
from carnet.letter import Direction, Letter, LetterKind, open_letter
from carnet.messages import ForwardRequest, SiteMessage
from carnet.problems import problem_of
from carnet.release import site_recipient
from gateway.inbound import Inbound
from gateway.passage_records import LetterRecord, PassageRecord
from gateway.passages.post import incoming, outgoing, place_of, post
from gateway.passages.steps import raise_alarm
from gateway.ports import Transaction
from gateway.records import JobRecord
from gateway.services import Services

_ASKED_OF_ORIGIN = frozenset({LetterKind.MESSAGE})
_ASKED_OF_DESTINATION = frozenset({LetterKind.DECLARE, LetterKind.COMMIT, LetterKind.MESSAGE})


class Opening:
    """Handles `open-letters` jobs; the key is the passage id."""

    def __init__(self, services: Services, inbound: Inbound) -> None:
        """Use the site's services; `inbound` takes what the far site says."""
        self._services = services
        self._inbound = inbound

    async def run(self, job: JobRecord) -> None:
        """Open every letter that is here."""
        passage = PassageId(job.key)

        def look(tx: Transaction) -> tuple[PassageRecord, LetterRecord] | None:
            record = tx.passage(passage)
            letter = None if record is None or record.state == "ended" else tx.letter_due(passage, incoming(record))
            return None if record is None or letter is None else (record, letter)

        while (found := await self._services.catalog.read(look)) is not None:
            await self._open(*found)

    async def _open(self, record: PassageRecord, sealed: LetterRecord) -> None:
        services = self._services
        place = place_of(record, sealed.direction, sealed.number)
        bundle = services.trust.ground(place.sender)
        try:
            writer = bundle.site(place.sender).signing_key
            letter = await asyncio.to_thread(open_letter, sealed.body, place, key=services.keyring.kem, writer=writer)
        except CarnetError as error:
            problem = error.problem

            def refuse(tx: Transaction) -> None:
                raise_alarm(tx, record, record.way[1:-1], problem)
                _mark_opened(tx, sealed)

            await services.catalog.write(refuse)
            return
        if letter.answers is None:
            await self._answer(record, sealed, letter)
        else:
            await services.catalog.write(lambda tx: _settle(tx, record, sealed, letter))

    async def _answer(self, record: PassageRecord, sealed: LetterRecord, letter: Letter) -> None:
        """Put the question to the use case that it is for, and post what came of it (rules 2 and 3)."""
        try:
            kind, body = await self._ask(record, letter)
        except Unavailable:
            raise
        except CarnetError as error:
            kind, body = LetterKind.PROBLEM, problem_of(error, request="").encode()

        def also(tx: Transaction) -> None:
            _mark_opened(tx, sealed)
            if record.role == "end":
                _tell_again(tx, record)

        await post(self._services, record, kind, body, answers=letter.number, also=also)

    async def _ask(self, record: PassageRecord, letter: Letter) -> tuple[LetterKind, bytes]:
        allowed = _ASKED_OF_ORIGIN if record.role == "start" else _ASKED_OF_DESTINATION
        if letter.kind not in allowed:
            raise PeerError("E-REQUEST", f"a letter of kind {letter.kind} asks nothing of this end of a passage")
        sender = site_recipient(self._services.trust_domain, letter.sender)
        body = letter.body.encode("utf-8")
        if letter.kind is LetterKind.DECLARE:
            request = await asyncio.to_thread(ForwardRequest.parse, body)
            if request.transfer != record.transfer:
                raise PeerError("E-REQUEST", f"the passage is for {record.transfer}, the letter declares {request.transfer}")
            return LetterKind.ANSWER, (await self._inbound.declare(sender, request)).encode()
        if letter.kind is LetterKind.COMMIT:
            return LetterKind.ANSWER, (await self._inbound.commit(sender, record.transfer)).encode()
        await self._inbound.message(sender, record.transfer, SiteMessage.parse(body))
        return LetterKind.TAKEN, b""


def _mark_opened(tx: Transaction, sealed: LetterRecord) -> None:
    tx.save_letter(replace(sealed, due=False, body=b""))


def _settle(tx: Transaction, record: PassageRecord, sealed: LetterRecord, letter: Letter) -> None:
    """Keep an answer with the question it is for, once, and wake the job that asked."""
    _mark_opened(tx, sealed)
    asked = tx.letter(record.id, outgoing(record), letter.answers or 0)
    if asked is None or asked.name is None or asked.answered_at is not None:
        raise_alarm(tx, record, record.way[1:-1], f"letter {letter.number} answers what was not asked")
        return
    tx.save_letter(replace(asked, answered_at=tx.now, kind=letter.kind.value, answer=letter.body.encode("utf-8")))
    if asked.job is not None:
        kind, _, key = asked.job.partition(" ")
        tx.queue_job(kind, key)


def _tell_again(tx: Transaction, record: PassageRecord) -> None:
    """At the destination: the origin speaks on a passage that is new; what it was told on an older one it may not have heard."""
    if any(one.role == "end" and one.created_at > record.created_at for one in tx.passages_of(record.transfer)):
        return
    transfer = tx.transfer(record.transfer)
    if transfer is not None and transfer.role == "destination" and tx.next_letter(record.id, Direction.ONWARD) == 1:
        _queue_telling(tx.queue_job, transfer.state, str(record.transfer))


def _queue_telling(queue: Callable[[str, str], None], state: str, key: str) -> None:
    if state == "delivered":
        queue("tell-delivered", key)
    elif state in {"held", "quarantined", "denied"}:
        queue("tell-decision", key)
