"""The end of KEM keys: a private key is destroyed once nothing that may still be held can be wrapped to it.

A sealer uses a KEM key while its statement is valid. What was wrapped to it may be held for as long as the operator allows
(`kem_hold_days`); what arrived is long sealed under the at-rest key. So a key is destroyed that many days after its end.

Rules:      1. the file goes first, then the entry says so: the log never claims a destruction that did not happen
            2. the statement with the highest number stays, so that numbers only grow  3. a key that no statement names, left by a
            rotation that was cut short, goes after a day
Source:     DESIGN section 5
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.identifiers import SiteName
from carnet.timestamps import parse_time
from carnet.trust import KemStatement
from gateway.ports import Catalog, Transaction

_STRAY: Final = timedelta(days=1)


class KemKeys(Protocol):
    """The part of the site's keys that ends."""

    def kem_numbers(self) -> Sequence[int]:
        """Return the numbers of the KEM keys held, ascending. Blocks."""
        ...

    def kem_made_at(self, number: int) -> datetime | None:
        """Return when a KEM key was made, or None if it is not here. Blocks."""
        ...

    def destroy_kem(self, number: int) -> None:
        """Overwrite and remove a KEM key; when this returns it is gone. Again is no error. Blocks."""
        ...


async def destroy_ended(catalog: Catalog, keyring: KemKeys, site: SiteName, now: datetime, hold: timedelta) -> list[int]:
    """Destroy this site's KEM keys whose time, and `hold` after it, is over; return their numbers.

    Steps: (1) the numbers; (2) each file, gone for good; (3) one transaction: entries, and statements forgotten. After a crash
    between (2) and (3) the next call finds the statement without its file, and does (3).
    """
    stated = await catalog.read(lambda tx: _statements(tx, site))
    held = await asyncio.to_thread(keyring.kem_numbers)
    over = {number for number, statement in stated.items() if now >= parse_time(statement.not_after) + hold}  # (1)
    over |= {number for number in held if _is_stray(keyring, stated, number, now)}
    newest = max(stated, default=0)
    done = await catalog.read(lambda tx: {number for number in over if tx.site_document(_name(site, number)) is not None})
    over -= done
    for number in sorted(over):
        await asyncio.to_thread(keyring.destroy_kem, number)  # (2)

    def record(tx: Transaction) -> None:  # (3)
        for number in sorted(over):
            fields: dict[str, JsonValue] = {"site": site, "number": number}
            tx.append(EntryType.KEM_KEY_DESTROYED, fields)
            tx.put_site_document(_name(site, number), b"destroyed")
            if number != newest:
                tx.delete_site_document(f"kem/{site}/{number}")

    if over:
        await catalog.write(record)
    return sorted(over)


def _is_stray(keyring: KemKeys, stated: dict[int, KemStatement], number: int, now: datetime) -> bool:
    """Tell whether no statement names the key, and none will: a later one is stated, and whoever made it had a day."""
    made = keyring.kem_made_at(number)
    return number not in stated and number < max(stated, default=0) and made is not None and now >= made + _STRAY


def _statements(tx: Transaction, site: SiteName) -> dict[int, KemStatement]:
    found = (KemStatement.read_unverified(parse_envelope(body)) for body in tx.site_documents(f"kem/{site}/").values())
    return {statement.number: statement for statement in found}


def _name(site: SiteName, number: int) -> str:
    return f"kem-destroyed/{site}/{number}"
