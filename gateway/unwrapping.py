"""Takes a released key at the destination: nothing is unwrapped before the origin's `release` decision and its proof are right.

The key is kept under the at-rest key, with decision and proof beside it, and opening the artifact is queued, all at once.
"""

from dataclasses import replace

from carnet.decision import Gate
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import Conflict, Held
from carnet.identifiers import SpiffeId, TransferId
from carnet.messages import KeyReleaseMessage
from carnet.packing import PackingList
from carnet.release import open_release
from carnet.steps import Expected, require_allow, verify_step
from carnet.transfer import DESTINATION, may, step
from carnet.trust import TrustBundle
from gateway import documents
from gateway.deciding import require_signer
from gateway.heads import Heads
from gateway.ownership import transfer_of_peer
from gateway.ports import Transaction
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
            require_signer(tx, services, transfer)
            return found, documents.read_packing(tx, transfer)

        record, packing = await services.catalog.read(look)
        if record.state != "stored":
            if record.state in {"receiving", "cancelled", "expired"}:
                raise Conflict("E-STATE", f"transfer {transfer} is {record.state}, it takes no key")
            return
        decision = verify_step(
            body.step,
            site=bundle.site(record.origin),
            trust_domain=bundle.trust_domain,
            expected=Expected(
                gate=Gate.RELEASE,
                transfer=transfer,
                waybill=packing.waybill,
                packing=packing.digest,
                destination=services.site,
                recipient_key=body.release.key_digest,
            ),
        )
        require_allow(decision, services.clock.now())
        if decision.trust_version > bundle.version:
            raise Held(
                "E-TRUST",
                f"the release of {transfer} rests on trust bundle {decision.trust_version}, here is {bundle.version}",
                remedy="import the newer trust bundle at this site",
            )
        await self._heads.check(bundle, record.origin, body.step.proof)
        floor = bundle.lane(record.lane, record.origin).release_floor
        if floor.approvals or floor.cosignatures:
            raise Held("E-HELD", f"lane {record.lane} asks for approvals or cosignatures before a key is used; none came with it")
        private = services.keyring.kem(body.release.key_number)
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
            tx.save_transfer(replace(current, state=step(DESTINATION, current.state, "release"), state_at=tx.now))
            tx.append(
                EntryType.KEY_UNWRAPPED,
                {"transfer": transfer, "key": body.release.key_digest, "decision": decision.digest},
            )
            tx.queue_job("deliver", transfer)

        await services.catalog.write(keep)
