"""Hands out what persons are asked to approve, and takes what they signed; the signature counts, not who brings it.

Whoever may see a transfer, or may approve it, gets the signed documents to build the request from, and may bring an approval.
One that completes what is asked, or rejects it, has the delivery decided again.
"""

from dataclasses import replace

from carnet.approval import Approval, Verdict, check_approval
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import Conflict, NotAuthorised
from carnet.identifiers import SpiffeId, TransferId
from carnet.messages import ApprovalRequest, ApprovalRequests, ApproveRequest, TransferView
from carnet.trust import TrustBundle
from gateway import documents
from gateway.approving import OpenHold, decide_again, open_hold, prove_hold
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, TransferRecord
from gateway.services import Services
from gateway.transfers import Transfers


class Approvals:
    """Every call names the authenticated identity."""

    def __init__(self, services: Services, transfers: Transfers) -> None:
        """Use the site's services; `transfers` says who may see what."""
        self._services = services
        self._transfers = transfers

    async def requests(self, identity: SpiffeId, transfer: TransferId) -> ApprovalRequests:
        """Return the signed documents of each request that is open about a transfer; waits until the holds are proved.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN if there is none that this identity may see.
        """
        services = self._services

        def look(tx: Transaction) -> tuple[dict[str, bytes], list[OpenHold]]:
            record = self._transfers.visible(tx, identity, transfer)
            names = (documents.WAYBILL, documents.AGENT_STATEMENT, documents.PACKING_LIST)
            holds = [hold for _, hold in _open_holds(tx, services, record)]
            return ({name: documents.need(tx, transfer, name) for name in names} if holds else {}), holds

        bodies, holds = await services.catalog.read(look)
        requests = [
            ApprovalRequest(
                destination=hold.request.destination,
                gate=hold.request.gate.value,
                waybill=documents.envelope_json(bodies[documents.WAYBILL]),
                agent_statement=documents.envelope_json(bodies[documents.AGENT_STATEMENT]),
                packing_list=documents.envelope_json(bodies[documents.PACKING_LIST]),
                hold=await prove_hold(services, hold),
                approvals=tuple(one.to_json() for one in hold.approvals),
            )
            for hold in holds
        ]
        return ApprovalRequests(transfer=transfer, requests=tuple(requests))

    async def take(self, identity: SpiffeId, transfer: TransferId, request: ApproveRequest) -> TransferView:
        """Check, keep and log an approval in one transaction; the same one again changes nothing.

        Raises:
            NotFound: E-TRANSFER-UNKNOWN. PeerError: E-FORMAT. IntegrityError: E-SIGNATURE. Held: E-TRUST-EXPIRED, E-CLOCK.
            NotAuthorised: E-NOT-ALLOWED if that person may not approve this, in this role.
            Conflict: E-APPROVALS if it is about no request that is open; E-STATE if that person has answered already.
        """
        services = self._services
        bundle = services.trust.ground()
        envelope = parse_envelope(request.approval)
        wanted = Approval.read_unverified(envelope).request

        def change(tx: Transaction) -> None:
            record = self._transfers.visible(tx, identity, transfer)
            for delivery, hold in _open_holds(tx, services, record):
                if hold.request.digest == wanted:
                    self._keep(tx, identity, bundle, record, delivery, hold, envelope)
                    return
            raise Conflict("E-APPROVALS", f"transfer {transfer} has no such request open: it changed, expired, or is another's")

        await services.catalog.write(change)
        return await self._transfers.show(identity, transfer)

    def _keep(
        self,
        tx: Transaction,
        identity: SpiffeId,
        bundle: TrustBundle,
        record: TransferRecord,
        delivery: DeliveryRecord,
        hold: OpenHold,
        envelope: Envelope,
    ) -> None:
        services = self._services
        now = services.trust.floor.judged(tx.now)
        revoked = services.trust.revocations.state.revoked_keys(bundle)
        approval = check_approval(envelope, hold.request, bundle, now=now, revoked=revoked)
        if tx.document(record.id, documents.reviewed_name(approval.person)) is not None:
            said = f"{approval.person} reviewed what was let go of transfer {record.id}, and approves nothing of it afterwards"
            raise NotAuthorised("E-NOT-ALLOWED", said, remedy="ask somebody else who holds the role")
        name = documents.approval_name(approval.request, approval.person)
        known = tx.document(record.id, name)
        if known is not None:
            if Approval.read_unverified(documents.read_envelope(known)).digest == approval.digest:
                return
            raise Conflict("E-STATE", f"{approval.person} has answered this request already")
        tx.put_document(record.id, name, envelope.encode())
        tx.append(
            EntryType.APPROVAL_RECEIVED,
            {
                "transfer": record.id,
                "destination": delivery.destination,
                "request": approval.request,
                "approval": approval.digest,
                "person": approval.person,
                "role": approval.role,
                "verdict": approval.verdict.value,
                "by": identity,
            },
        )
        tx.save_delivery(delivery)  # wakes whoever watches the transfer
        counted = replace(hold, approvals=(*hold.approvals, envelope)).tally(tx, services, bundle)
        if approval.verdict is Verdict.REJECT or not counted.missing(hold.request.needed):
            decide_again(tx, record, delivery)


def _open_holds(tx: Transaction, services: Services, record: TransferRecord) -> list[tuple[DeliveryRecord, OpenHold]]:
    found = [(delivery, open_hold(tx, services, delivery)) for delivery in tx.deliveries(record.id)]
    return [(delivery, hold) for delivery, hold in found if hold is not None]
