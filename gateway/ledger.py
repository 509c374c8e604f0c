"""The ledger of licences: how much of its share this site has used, written in the very transaction that decides a release.

A release that rests on a licence is a debit; what ends before its key began to leave is credited. What happened is in the log too
(`licence-debited`, `licence-credited`), so a ledger that somebody set back does not go with it.

Rules:      1. one release to one destination is debited once, however often it is decided
            2. a key that may have left is not credited, whatever became of it  3. a use is never forgotten, a credit says why
Spec:       docs/policy.md section "Licences"; COMPLIANCE section 5
"""

import json
from dataclasses import dataclass
from typing import Final

from carnet.encoding import JsonValue, canonical
from carnet.entries import EntryType
from carnet.identifiers import SiteName, TransferId
from carnet.licence import Licence, Used
from carnet.policy import PolicyDecision
from carnet.policy.matching import Answer
from carnet.timestamps import format_time
from gateway import documents
from gateway.ports import Transaction

_TOTAL: Final = "licence-total/"
_USE: Final = "licence-use/"


@dataclass(frozen=True)
class Use:
    """One release that was debited to a licence; `credited` is why it was given back, if it was."""

    transfer: TransferId
    destination: SiteName
    value: int
    at: str
    credited: str | None = None


def used_without(tx: Transaction, licence: str, transfer: TransferId, destination: SiteName) -> Used:
    """Return what this site has used of a licence, the release of this transfer to this destination left out."""
    total, own = total_used(tx, licence), _use(tx, licence, transfer, destination)
    if own is None or own.credited is not None:
        return total
    return Used(total.quantity - 1, total.value - own.value)


def total_used(tx: Transaction, licence: str) -> Used:
    """Return what this site has used of a licence."""
    body = tx.site_document(_TOTAL + licence)
    return Used() if body is None else Used(**json.loads(body))


def uses(tx: Transaction, licence: str) -> list[Use]:
    """Return every release that was debited to a licence, also those that were credited, oldest first."""
    found = [_read(name, body) for name, body in tx.site_documents(f"{_USE}{licence}/").items()]
    return sorted(found, key=lambda one: (one.at, one.transfer, one.destination))


def releases_counted(tx: Transaction) -> int:
    """Return how many releases all licences together count, credited ones left out."""
    return sum(int(json.loads(body)["quantity"]) for body in tx.site_documents(_TOTAL).values())


def rests_on_licence(decision: PolicyDecision) -> bool:
    """Tell whether a rule asked for a licence and was satisfied: conditions, or one alternative, that all hold and name one."""
    return any(
        all(one.answer is Answer.YES for one in asked) and any(one.name.startswith("licence.") for one in asked)
        for result in decision.results
        for place in {one.exempting for one in result.inputs}
        for asked in [[one for one in result.inputs if one.exempting == place]]
    )


def debit(tx: Transaction, licence: Licence, transfer: TransferId, destination: SiteName, *, value: int) -> None:
    """Count a release, unless it is counted (rule 1); whether there is room was decided in this transaction."""
    own = _use(tx, licence.id, transfer, destination)
    if own is not None and own.credited is None:
        return
    total = total_used(tx, licence.id)
    _save(tx, licence.id, Use(transfer, destination, value, format_time(tx.now)))
    _save_total(tx, licence.id, Used(total.quantity + 1, total.value + value))
    tx.put_document(transfer, _USE + destination, licence.id.encode("ascii"))
    tx.append(
        EntryType.LICENCE_DEBITED,
        {"licence": licence.id, "edition": licence.edition, "transfer": transfer, "destination": destination, "value": value},
    )


def credit(tx: Transaction, transfer: TransferId, destination: SiteName, why: str) -> None:
    """Give back what a release was debited, if it was, and its key has not begun to leave (rule 2)."""
    body = tx.document(transfer, _USE + destination)
    if body is None or tx.document(transfer, documents.key_sent_name(destination)) is not None:
        return
    licence = body.decode("ascii")
    own = _use(tx, licence, transfer, destination)
    if own is None or own.credited is not None:
        return
    total = total_used(tx, licence)
    _save(tx, licence, Use(own.transfer, own.destination, own.value, own.at, why))
    _save_total(tx, licence, Used(total.quantity - 1, total.value - own.value))
    tx.append(EntryType.LICENCE_CREDITED, {"licence": licence, "transfer": transfer, "destination": destination, "why": why})


def _use(tx: Transaction, licence: str, transfer: TransferId, destination: SiteName) -> Use | None:
    name = f"{_USE}{licence}/{transfer}/{destination}"
    body = tx.site_document(name)
    return None if body is None else _read(name, body)


def _read(name: str, body: bytes) -> Use:
    _, _, transfer, destination = name.split("/")
    said = json.loads(body)
    return Use(TransferId(transfer), SiteName(destination), said["value"], said["at"], said.get("credited"))


def _save(tx: Transaction, licence: str, use: Use) -> None:
    said: dict[str, JsonValue] = {"value": use.value, "at": use.at}
    if use.credited is not None:
        said["credited"] = use.credited
    tx.put_site_document(f"{_USE}{licence}/{use.transfer}/{use.destination}", canonical(said))


def _save_total(tx: Transaction, licence: str, used: Used) -> None:
    tx.put_site_document(_TOTAL + licence, canonical({"quantity": used.quantity, "value": used.value}))
