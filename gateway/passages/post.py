"""Writes letters: signed by this site, sealed for the far end of the passage, put into the outbox in one transaction."""

import asyncio
from collections.abc import Callable

from carnet.letter import Direction, Letter, LetterKind, Place, seal_letter
from gateway.passage_records import LetterRecord, PassageRecord
from gateway.ports import Transaction
from gateway.services import Services


def outgoing(record: PassageRecord) -> Direction:
    """Return the direction in which this end of the passage writes."""
    return Direction.ONWARD if record.role == "start" else Direction.BACK


def incoming(record: PassageRecord) -> Direction:
    """Return the direction in which letters come to this end of the passage."""
    return Direction.BACK if record.role == "start" else Direction.ONWARD


def place_of(record: PassageRecord, direction: Direction, number: int) -> Place:
    """Return where a letter of the passage belongs."""
    ends = (record.way[0], record.way[-1])
    sender, recipient = ends if direction is Direction.ONWARD else ends[::-1]
    return Place(
        transfer=record.transfer,
        passage=record.id,
        sender=sender,
        recipient=recipient,
        direction=direction,
        number=number,
    )


async def post(
    services: Services,
    record: PassageRecord,
    kind: LetterKind,
    body: bytes,
    *,
    answers: int | None = None,
    name: str | None = None,
    job: str | None = None,
    also: Callable[[Transaction], None] = lambda _tx: None,
) -> None:
    """Put a letter into the outbox and queue its sending; `also` is done in the same transaction.

    Sealing a large letter takes a while, so it is done before the transaction, and again if its number was taken meanwhile.

    Raises:
        NotFound: E-SITE-UNKNOWN if no KEM key of the far end is known. CapacityError: E-LIMIT letter_bytes_max.
    """
    direction = outgoing(record)
    statement = services.trust.kem(record.way[-1] if record.role == "start" else record.way[0], services.clock.now())
    is_posted = False
    while not is_posted:
        number = await services.catalog.read(lambda tx: tx.next_letter(record.id, direction))
        letter = Letter.at(place_of(record, direction, number), kind, body, answers=answers)
        sealed = await asyncio.to_thread(
            seal_letter, letter, services.keyring.signing, number=statement.number, public=statement.key
        )
        written = LetterRecord(passage=record.id, direction=direction, number=number, body=sealed, name=name, job=job)
        is_posted = await services.catalog.write(lambda tx, written=written: _keep(tx, record, written, also))  # type: ignore[misc]


def _keep(tx: Transaction, record: PassageRecord, letter: LetterRecord, also: Callable[[Transaction], None]) -> bool:
    current = tx.passage(record.id)
    if tx.next_letter(record.id, letter.direction) != letter.number or current is None:
        return False
    onward = letter.direction is Direction.ONWARD
    tx.save_letter(
        LetterRecord(
            passage=letter.passage,
            direction=letter.direction,
            number=letter.number,
            body=letter.body,
            slips=current.slips if onward else 0,
            name=letter.name,
            job=letter.job,
        )
    )
    also(tx)
    tx.queue_job("pass-on" if onward else "pass-back", record.id)
    return True
