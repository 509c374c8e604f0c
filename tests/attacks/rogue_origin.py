"""Whoever is root on us: holds its signing key, writes its catalog, extends its log, and speaks to eu under its certificate."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from carnet.approval import DecisionRequest
from carnet.decision import Decision, Gate, Outcome
from carnet.envelope import Envelope, parse_envelope
from carnet.identifiers import SiteName, TransferId
from carnet.messages import ApprovedHold, KeyReleaseMessage, SignedStep, SiteMessage
from carnet.release import site_recipient
from carnet.steps import ENTRY_OF_GATE
from carnet.trust import AgentStatement
from carnet.waybill import Waybill
from gateway import documents
from gateway.offline import open_site
from gateway.translog.log import TransparencyLog
from tests.attacks.parties import gateway_client
from tests.crossing.sites import World

EU = SiteName("eu")


class Root:
    """Root on us, which does not run while this works and runs again when it speaks."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def hold(self, transfer: TransferId) -> Decision:
        """Return the hold that us signed about the key for eu."""
        return Decision.read_unverified(parse_envelope(await self._document(transfer, documents.hold_name(Gate.RELEASE, EU))))

    async def request(self, transfer: TransferId, hold: Decision | None = None) -> DecisionRequest:
        """Return the request that `hold`, or the one that us signed, makes."""
        waybill = await self._document(transfer, documents.WAYBILL)
        statement = await self._document(transfer, documents.AGENT_STATEMENT)
        return DecisionRequest.of(
            hold or await self.hold(transfer),
            Waybill.read_unverified(parse_envelope(waybill)),
            AgentStatement.read_unverified(parse_envelope(statement)),
        )

    async def logged(self, *decisions: Decision) -> list[SignedStep]:
        """Sign decisions, append each to the true log of us, publish it, and return them with their proofs; us does not run."""
        async with open_site(self.world.us.directory) as site:
            key = site.keyring().signing
            log = TransparencyLog(site.catalog, site.paths.log, origin=site.settings.log_origin, key=key)
            await log.start()
            running = asyncio.create_task(log.run())
            steps = []
            for decision in decisions:
                fields: dict[str, Any] = {"transfer": decision.transfer, "decision": decision.digest}
                kind = ENTRY_OF_GATE[decision.gate]
                index = await site.catalog.write(lambda tx, kind=kind, fields=fields: tx.append(kind, fields))
                proof = await log.prove(index, ("transfer", "decision"))
                steps.append(SignedStep(decision=decision.sign(key).to_json(), proof=proof))
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        return steps

    async def key_message(
        self, transfer: TransferId, release: SignedStep, hold: SignedStep | None, approvals: Sequence[Envelope]
    ) -> SiteMessage:
        """Return the message that carries the key of a transfer to eu."""
        async with open_site(self.world.us.directory) as site:
            name = documents.release_name(site_recipient(site.settings.trust_domain, EU))
        wrapped = documents.read_release(await self._document(transfer, name))
        approved = None if hold is None else ApprovedHold(hold=hold, approvals=tuple(one.to_json() for one in approvals))
        return SiteMessage(body=KeyReleaseMessage(number=0, release=wrapped, step=release, approved=approved))

    async def send(self, transfer: TransferId, message: SiteMessage) -> None:
        """Send a message to eu as the gateway of us."""
        async with open_site(self.world.us.directory) as site:
            bundle = site.trust.state().current
        async with gateway_client(self.world.us, self.world.eu, bundle) as client:
            await client.message(transfer, message)

    async def _document(self, transfer: TransferId, name: str) -> bytes:
        async with open_site(self.world.us.directory) as site:
            return await site.catalog.read(lambda tx: documents.need(tx, transfer, name))


def allowed(hold: Decision, **changes: Any) -> Decision:
    """Return the release that overcomes a hold."""
    return hold.model_copy(update={"outcome": Outcome.ALLOW, "reasons": (), **changes})
