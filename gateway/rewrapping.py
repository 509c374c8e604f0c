"""Wraps a key anew at the origin when the destination's KEM key that it was wrapped to ended or was taken back meanwhile.

The agent wrapped to the key that was newest when it pushed. A release that was held for weeks may find that key gone; one
whose key was stolen must not be sent at all. On inspected lanes the origin holds the artifact key and wraps it to the newest.

Rules:      1. a wrap to a key that is valid and not revoked is left as it is  2. what is wrapped anew is logged, and decided
            about anew, for the decision names the recipient's key
Source:     DESIGN section 4, "Key releases"
"""

from datetime import datetime

from carnet.entries import EntryType
from carnet.errors import Held
from carnet.identifiers import SiteName, TransferId
from carnet.release import KeyRelease, make_release, site_recipient
from carnet.trust import KemStatement
from gateway import documents
from gateway.ports import Transaction
from gateway.services import Services


def kept_release(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName) -> KeyRelease:
    """Return the key release for a destination as it is kept; raises as `documents.need`."""
    recipient = site_recipient(services.trust_domain, destination)
    return documents.read_release(documents.need(tx, transfer, documents.release_name(recipient)))


def is_wrapped_well(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName) -> bool:
    """Tell whether the kept release may be sent as it is."""
    kept = kept_release(tx, services, transfer, destination)
    if services.trust.is_kem_usable(destination, kept.key_number, _now(tx, services)):
        return True
    is_revoked = services.trust.is_kem_revoked(destination, kept.key_number)
    return not is_revoked and _better(tx, services, transfer, destination) is None


def usable_release(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName) -> KeyRelease:
    """Return the key release for a destination, wrapped anew, kept and logged if its key may not be used any more.

    Raises:
        Held: if the key that it is wrapped to was revoked: E-HELD while the destination states no other, E-REWRAP if this site
            cannot open it, on a sealed lane.
    """
    kept = kept_release(tx, services, transfer, destination)
    if is_wrapped_well(tx, services, transfer, destination):
        return kept
    better, sealed = _better(tx, services, transfer, destination), tx.artifact_key(transfer)
    if better is None or sealed is None:
        raise Held(
            "E-HELD" if sealed is not None else "E-REWRAP",
            f"KEM key {kept.key_number} of {destination}, to which the key of {transfer} is wrapped, was revoked",
            remedy=f"start the gateway of {destination}, which states another one; on a sealed lane its sender wraps it again",
        )
    made = make_release(
        documents.read_packing(tx, transfer),
        services.keyring.open(sealed, transfer.raw),
        recipient=kept.recipient,
        key_number=better.number,
        public=better.key,
    )
    tx.put_document(transfer, documents.release_name(kept.recipient), made.encode())
    tx.append(EntryType.KEY_REWRAPPED, {"transfer": transfer, "recipient": kept.recipient, "key": made.key_digest})
    return made


def _better(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName) -> KemStatement | None:
    """Return the destination's newest usable key, if this site can wrap to it."""
    return None if tx.artifact_key(transfer) is None else services.trust.newest_kem(destination, _now(tx, services))


def _now(tx: Transaction, services: Services) -> datetime:
    return services.trust.floor.judged(tx.now)
