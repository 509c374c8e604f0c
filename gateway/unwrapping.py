"""Takes a released key at the destination: nothing is unwrapped before the origin's `release` decision and its proof are right.

The key is kept under the at-rest key, with decision and proof beside it, and opening the artifact is queued, all at once.
"""

from dataclasses import replace

from carnet.approval import Approval, DecisionRequest, described, floor_needs, needs_of, tally, united
from carnet.decision import Decision, Gate
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import Conflict, Held, IntegrityError, PeerError
from carnet.identifiers import SpiffeId, TransferId
from carnet.keys import KemPrivateKey
from carnet.lane_mode import require_mode
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import KeyReleaseMessage
from carnet.packing import PackingList
from carnet.release import open_release
from carnet.steps import Expected, require_allow, verify_step
from carnet.transfer import DESTINATION, may, step
from carnet.trust import AgentStatement, Lane, TrustBundle
from gateway import documents
from gateway.base_rule import require_no_recalled_base
from gateway.deciding import require_signer
from gateway.heads import Heads
from gateway.ownership import transfer_of_peer
from gateway.ports import Transaction
from gateway.recall_signing import refuse_recalled
from gateway.records import TransferRecord
from gateway.services import Services


class Unwrapping:
    """What becomes of a `key-release` message."""

    def __init__(self, services: Services, heads: Heads) -> None:
        """Use the site's services and the heads of its peers' logs."""
        self._services = services
        self._heads = heads

    async def take_key(self, peer: SpiffeId, transfer: TransferId, body: KeyReleaseMessage, bundle: TrustBundle) -> None:
        """Verify the release decision and its proof, then unwrap, and keep the key under the at-rest key (P1, P7)."""
        services = self._services

        def look(tx: Transaction) -> tuple[TransferRecord, PackingList]:
            found = transfer_of_peer(tx, peer, transfer)
            refuse_recalled(tx, transfer)
            require_signer(tx, services, transfer)
            if found.state == "stored":
                require_no_recalled_base(tx, transfer, services.site)
            return found, documents.read_packing(tx, transfer)

        record, packing = await services.catalog.read(look)
        if record.state != "stored":
            if record.state in {"receiving", "cancelled", "expired"}:
                raise Conflict("E-STATE", f"transfer {transfer} is {record.state}, it takes no key")
            return
        require_mode(packing, bundle.lane(record.lane, record.origin), record.destinations)
        expected = Expected(
            gate=Gate.RELEASE,
            transfer=transfer,
            waybill=packing.waybill,
            packing=packing.digest,
            destination=services.site,
            recipient_key=body.release.key_digest,
        )
        origin = bundle.site(record.origin)
        decision = verify_step(body.step, site=origin, trust_domain=bundle.trust_domain, expected=expected)
        require_allow(decision, services.clock.now())
        if decision.trust_version > bundle.version:
            raise Held(
                "E-TRUST",
                f"the release of {transfer} rests on trust bundle {decision.trust_version}, here is {bundle.version}",
                remedy="import the newer trust bundle at this site",
            )
        await self._heads.check(bundle, record.origin, body.step.proof)
        private = await self._private_key(transfer, body, decision)
        approved = await self._require_approvals(record, body, decision, expected, bundle)
        artifact_key = open_release(body.release, packing, private, recipient=services.identity)
        sealed = services.keyring.seal(artifact_key, transfer.raw)
        envelope = parse_envelope(body.step.decision).encode()

        def keep(tx: Transaction) -> None:
            current = transfer_of_peer(tx, peer, transfer)
            if not may(DESTINATION, current.state, "release"):
                return
            tx.put_artifact_key(transfer, sealed)
            tx.put_document(transfer, documents.decision_name(Gate.RELEASE, services.site), envelope)
            tx.put_document(transfer, documents.proof_name(Gate.RELEASE, services.site), body.step.proof.encode())
            for name, document in approved.items():
                tx.put_document(transfer, name, document)
            tx.save_transfer(replace(current, state=step(DESTINATION, current.state, "release"), state_at=tx.now))
            tx.append(
                EntryType.KEY_UNWRAPPED,
                {
                    "transfer": transfer,
                    "key": body.release.key_digest,
                    "decision": decision.digest,
                    "approvals": [name for name in sorted(approved) if name.startswith(documents.APPROVAL)],
                },
            )
            tx.queue_job("deliver", transfer)

        await services.catalog.write(keep)

    async def _private_key(self, transfer: TransferId, body: KeyReleaseMessage, decision: Decision) -> KemPrivateKey:
        """Return the key that opens the release; raise `Held` E-REWRAP if it is not held here, or was taken back (logged)."""
        services, release = self._services, body.release
        is_revoked = services.trust.revocations.state.is_kem_number_revoked(services.site, release.key_number)
        if release.key_number in services.keyring.kem_numbers() and not is_revoked:
            private = services.keyring.kem(release.key_number)
            if private.public.digest == release.key_digest:
                return private
        why = "took back" if is_revoked else "does not hold"
        error = Held("E-REWRAP", f"the key of {transfer} is wrapped to KEM key {release.key_number}, which {services.site} {why}")
        await services.catalog.write(lambda tx: _log_refusal(tx, transfer, decision, str(error)))
        raise error

    async def _require_approvals(
        self, record: TransferRecord, body: KeyReleaseMessage, decision: Decision, expected: Expected, bundle: TrustBundle
    ) -> dict[str, bytes]:
        """Return the documents that show the approvals this release needs, by the names to keep them under (P7).

        What is needed is what this site's own trust bundle says for the lane, and what the release says of itself. A refusal is
        logged, once for each decision that the origin signs.

        Raises:
            Held: E-APPROVALS if approvals are missing, E-HELD if the lane asks for what no version gives yet.
            IntegrityError: a signature, a proof or a document is not right.
        """
        lane = bundle.lane(record.lane, record.origin)
        try:
            _require_no_cosignatures(lane)
            needed = united(floor_needs(lane.release_floor), needs_of(decision))
            return await self._approved(body, decision, expected, bundle, needed) if needed else {}
        except (Held, IntegrityError, PeerError) as error:
            problem = str(error)
            await self._services.catalog.write(lambda tx: _log_refusal(tx, record.id, decision, problem))
            raise

    async def _approved(
        self, body: KeyReleaseMessage, decision: Decision, expected: Expected, bundle: TrustBundle, needed: dict[str, int]
    ) -> dict[str, bytes]:
        """Steps: (1) something came; (2) the hold is signed and logged; (3) it rests on the same as the release; (4) count.

        Every document is built again from what this site verified when the transfer was declared.
        """
        services, transfer, origin = self._services, expected.transfer, decision.site
        lacking = f"{origin} released the key of {transfer} without the approvals that are asked for"
        if body.approved is None:  # (1)
            raise Held("E-APPROVALS", f"{lacking}: {described(needed)}")
        site = bundle.site(origin)
        hold = verify_step(body.approved.hold, site=site, trust_domain=bundle.trust_domain, expected=expected)  # (2)
        await self._heads.check(bundle, origin, body.approved.hold.proof)
        rests_on = (decision.policy, decision.facts, decision.trust_version)
        if (hold.policy, hold.facts, hold.trust_version) != rests_on:  # (3)
            raise IntegrityError("E-DECISION", f"the hold that was approved rests on other policy, facts or trust: {hold.digest}")

        def look(tx: Transaction) -> DecisionRequest:
            statement = documents.read_envelope(documents.need(tx, transfer, documents.AGENT_STATEMENT))
            waybill = documents.read_waybill(tx, transfer)
            return DecisionRequest.of(hold, waybill, AgentStatement.read_unverified(statement))

        request = await services.catalog.read(look)
        envelopes = [parse_envelope(one) for one in body.approved.approvals]
        now = services.trust.floor.judged(services.clock.now())
        revoked = services.trust.revocations.state.revoked_keys(bundle)
        found = tally(envelopes, request, bundle, now=now, revoked=revoked)  # (4)
        missing = found.missing(needed)
        if missing or found.rejection is not None:
            why = "it was rejected" if found.rejection is not None else described(missing)
            raise Held("E-APPROVALS", "; ".join([f"{lacking}: {why}", *found.refused])[:TEXT_CHARS_MAX])
        kept = {
            documents.hold_name(Gate.RELEASE, services.site): parse_envelope(body.approved.hold.decision).encode(),
            documents.proof_name("hold", services.site): body.approved.hold.proof.encode(),
        }
        for envelope in envelopes:
            approval = Approval.read_unverified(envelope)
            if approval in found.counted:
                kept[documents.approval_name(request.digest, approval.person)] = envelope.encode()
        return kept


def _require_no_cosignatures(lane: Lane) -> None:
    if lane.release_floor.cosignatures:
        raise Held("E-HELD", f"lane {lane.name} asks for cosignatures before a key is used; none came with it")


def _log_refusal(tx: Transaction, transfer: TransferId, decision: Decision, problem: str) -> None:
    """Log that a key was not used, and why; the same decision coming again is not logged again."""
    name = documents.key_refused_name(decision.digest)
    if tx.document(transfer, name) is None:
        tx.put_document(transfer, name, problem.encode("utf-8"))
        tx.append(EntryType.KEY_REFUSED, {"transfer": transfer, "decision": decision.digest, "why": problem})
