"""Rounds of rechecking: what the last one rested on, how far it came, and whether another is due.

A round is a document of the site, written with each page, so that a crash costs at most a page. Whoever changes what facts are
read from asks for a round in the same transaction, be it in another process.

Rules:      1. a round that runs is finished before the next begins, so that frequent changes never keep its end waiting
            2. what is asked for while one runs is asked for still when it ends
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from carnet.encoding import canonical, parse_object
from carnet.identifiers import Digest
from carnet.timestamps import format_time, parse_time
from gateway.ports import Transaction

KIND: Final = "recheck"
_KEY: Final = "site"
_ROUND: Final = "recheck/round"
_ASKED: Final = "recheck/asked"
_BYTES_MAX: Final = 4_096


@dataclass(frozen=True)
class Round:
    """One round: `ground` is the digest of what it rests on, `cursor` the last transfer looked at, as lists name it."""

    ground: Digest
    begun: datetime
    cursor: str | None = None
    is_over: bool = False


def ask_for_round(tx: Transaction) -> None:
    """Have everything looked at again: facts may say something else from this transaction on."""
    tx.put_site_document(_ASKED, format_time(tx.now).encode("ascii"))
    tx.queue_job(KIND, _KEY)


def is_due(tx: Transaction, ground: Digest, hours: int, now: datetime) -> bool:
    """Tell whether a round should begin and none runs."""
    last = last_round(tx)
    if last is None:
        return True
    if not last.is_over:
        return False  # its job goes on
    is_old = not last.begun <= now < last.begun + timedelta(hours=hours)
    return is_old or last.ground != ground or tx.site_document(_ASKED) is not None


def begin_page(tx: Transaction, ground: Digest, hours: int, now: datetime) -> Round | None:
    """Return the round that runs, or begin one if that is due; None if there is nothing to do."""
    last = last_round(tx)
    if last is not None and not last.is_over:
        return last
    if not is_due(tx, ground, hours, now):
        return None
    begun = Round(ground, now)
    tx.delete_site_document(_ASKED)
    _keep(tx, begun)
    return begun


def end_page(tx: Transaction, current: Round, cursor: str | None) -> None:
    """Put down that all transfers up to `cursor` were looked at, None for all there are, and queue what follows."""
    _keep(tx, replace(current, cursor=cursor, is_over=cursor is None))
    if cursor is not None or tx.site_document(_ASKED) is not None:
        tx.queue_job(KIND, _KEY)


def queue_round(tx: Transaction) -> None:
    """Queue the job that begins a round if one is due."""
    tx.queue_job(KIND, _KEY)


def last_round(tx: Transaction) -> Round | None:
    """Return the round that runs, or ran last."""
    body = tx.site_document(_ROUND)
    if body is None:
        return None
    said = parse_object(body, bytes_max=_BYTES_MAX)
    cursor = said["cursor"]
    return Round(
        Digest(str(said["ground"])),
        parse_time(str(said["begun"])),
        None if cursor is None else str(cursor),
        said["over"] is True,
    )


def _keep(tx: Transaction, one: Round) -> None:
    said = {"ground": str(one.ground), "begun": format_time(one.begun), "cursor": one.cursor, "over": one.is_over}
    tx.put_site_document(_ROUND, canonical({**said}))
