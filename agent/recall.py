"""Recall: find what is meant, have the home site withdraw it, and wait until every site that had it has signed that it is gone.

Steps: (1) name, digest or transfer id becomes transfers of the home site; several are withdrawn only if all are meant; (2) the
site logs and withdraws each, and tells the others; (3) with a wait: each `deleted` receipt is here, signed by the site it is of,
as the trust bundle knows it, and about this transfer.
"""

from collections.abc import Sequence
from typing import TypeAlias

from agent.session import Session
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Digest, Repository, SiteName, Tag, TransferId
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import RecallView, TransferView
from carnet.presentation import printable
from carnet.receipt import Receipt, ReceiptKind

Subject: TypeAlias = TransferId | Digest | tuple[Repository, Tag]
"""What is to be recalled: one transfer, all transfers of an artifact, or those of the newest artifact of a name."""


class SeveralMeant(CallerError):
    """Several transfers are meant, and nobody said that all of them go."""

    def __init__(self, found: Sequence[TransferView]) -> None:
        """Say how many; `found` are they."""
        super().__init__(
            "E-USAGE",
            f"{len(found)} transfers here are of this artifact",
            remedy="recall one by its id, or all of them with --all",
        )
        self.found = tuple(found)


async def recall(session: Session, subject: Subject, reason: str, *, every: bool = False) -> list[TransferView]:
    """Do steps (1) and (2); return the transfers as they stand then.

    Raises:
        SeveralMeant: unless `every`. CallerError: E-USAGE for a reason that is not one line of text.
        NotFound, NotAuthorised, Conflict: as the site says.
    """
    check_reason(reason)
    client = session.client
    if isinstance(subject, TransferId):
        return [await client.recall(subject, reason)]
    digest = subject if isinstance(subject, Digest) else None
    name = subject if isinstance(subject, tuple) else None
    found = (await client.recallable(digest=digest, name=name)).transfers
    if len(found) > 1 and not every:
        raise SeveralMeant(found)
    return [await client.recall(view.transfer, reason) for view in found]


def check_reason(reason: str) -> None:
    """Raise `CallerError` E-USAGE for a reason that is not one line of text."""
    if not 0 < len(reason) <= TEXT_CHARS_MAX or printable(reason) != reason:
        raise CallerError(
            "E-USAGE", f"a reason is one line of 1 to {TEXT_CHARS_MAX} printable characters", remedy="say it in one line"
        )


async def wait_acknowledged(session: Session, views: Sequence[TransferView], timeout_s: float | None) -> list[TransferView]:
    """Do step (3); raise `Unavailable` E-TIMEOUT after `timeout_s`, while the sites go on."""
    waited = [await session.client.wait(view.transfer, is_acknowledged, timeout_s) for view in views]
    for view in waited:
        _check_receipts(session, view)
    return waited


def is_acknowledged(view: TransferView) -> bool:
    """Tell whether this site, and each site that is told, has withdrawn the transfer and signed that it did."""
    told = [delivery.recall for delivery in view.deliveries if delivery.recall is not None]
    return view.recall is not None and all(one.acknowledged is not None for one in (view.recall, *told))


def _check_receipts(session: Session, view: TransferView) -> None:
    """Believe a deletion only with the signature of the site that did it.

    Raises:
        IntegrityError: E-SIGNATURE for a receipt that is missing, by another site, or about something else.
    """
    _check_receipt(session, view, session.site, view.recall)
    for delivery in view.deliveries:
        if delivery.recall is not None:
            _check_receipt(session, view, delivery.destination, delivery.recall)


def _check_receipt(session: Session, view: TransferView, site: SiteName, recall: RecallView | None) -> None:
    if recall is None or recall.receipt is None:
        raise IntegrityError("E-SIGNATURE", f"{session.site} says {site} deleted {view.transfer} but shows no receipt")
    receipt = Receipt.open(parse_envelope(recall.receipt), [session.bundle.site(site).signing_key])
    about = (receipt.kind, receipt.site, receipt.transfer, receipt.artifact)
    if about != (ReceiptKind.DELETED, site, view.transfer, view.digest):
        raise IntegrityError("E-SIGNATURE", f"the receipt of {site} is not that it deleted {view.transfer}")
