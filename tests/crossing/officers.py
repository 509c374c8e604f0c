"""People who approve: their keys, a trust bundle that names them and asks for them, and what they sign."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.session import open_session
from agent.settings import AgentSettings
from carnet.approval import Approval, DecisionRequest, Verdict
from carnet.decision import Decision
from carnet.envelope import Envelope, parse_envelope
from carnet.identifiers import TransferId
from carnet.keys import SigningKey
from carnet.messages import ApprovalRequest, ApproveRequest, TransferView
from carnet.timestamps import format_time
from carnet.trust import AgentStatement, ApprovalFloor, Lane, Person, ReleaseFloor
from carnet.waybill import Waybill
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from tests.crossing.sites import LiveSite, World

ROOT_KEY = SigningKey(bytes(range(32)))
KEYS = {
    name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("ada", "bob", "carol", "olga", "dora", "spare"), 61)
}
PEOPLE = (
    Person(name="ada", roles=("security", "export-control"), keys=(KEYS["ada"].public,)),
    Person(name="bob", roles=("security",), keys=(KEYS["bob"].public,)),
    Person(name="carol", roles=("export-control",), keys=(KEYS["carol"].public,)),
    Person(name="dora", roles=("export-control", "security"), keys=(KEYS["dora"].public, KEYS["spare"].public)),
    Person(name="olga", roles=("export-control", "security"), keys=(KEYS["olga"].public,)),
)
TWO_ROLES = (ApprovalFloor(role="export-control", count=1), ApprovalFloor(role="security", count=1))


async def appoint(
    site: LiveSite, *, floor: tuple[ApprovalFloor, ...] = TWO_ROLES, people: tuple[Person, ...] = PEOPLE, cosignatures: int = 0
) -> None:
    """Import, at one site, a bundle that names the people and whose lane asks for `floor` before a key leaves."""
    plain = parse_lane("us-eu=us:eu")
    asked = ReleaseFloor(approvals=floor, cosignatures=cosignatures)
    lane = Lane.model_validate({**{name: getattr(plain, name) for name in Lane.model_fields}, "release_floor": asked})
    async with open_site(site.directory) as opened:
        bundle = propose(opened.trust.current(), Change(lanes=(lane,), people=people), datetime.now(UTC))
        await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)


async def appoint_both(world: World, **changes: Any) -> None:
    """Import the same bundle at both sites, which do not run."""
    for site in (world.us, world.eu):
        await appoint(site, **changes)


async def governed(world: World, policy: Callable[[str], str]) -> World:
    """Appoint officers whom no lane asks for anything, and give each site its policy; the sites do not run."""
    await appoint_both(world, floor=())
    for site in world.sites:
        site.set_policy(policy(site.name))
    return world


async def asked(world: World, transfer: TransferId, settings: AgentSettings | None = None) -> ApprovalRequest:
    """Return the only request that is open about a transfer."""
    async with open_session(settings or world.us.agent, connections=1) as session:
        [found] = (await session.client.approval_requests(transfer)).requests
    return found


def request_of(found: ApprovalRequest) -> DecisionRequest:
    """Return the decision request that the signed documents make, their signatures unverified."""
    return DecisionRequest.of(
        Decision.read_unverified(parse_envelope(found.hold.decision)),
        Waybill.read_unverified(parse_envelope(found.waybill)),
        AgentStatement.read_unverified(parse_envelope(found.agent_statement)),
    )


def signed(request: DecisionRequest, person: str, role: str, *, key: str = "", **changes: Any) -> Envelope:
    """Return a person's word about a request, signed by the key of `key`, their own if not named."""
    fields = {"request": request.digest, "person": person, "role": role, "verdict": Verdict.APPROVE, "at": soon_after(request)}
    return Approval.model_validate(fields | changes).sign(KEYS[key or person])


def soon_after(request: DecisionRequest) -> str:
    """Return a time at which the request was open."""
    return max(request.created, format_time(datetime.now(UTC) - timedelta(seconds=1)))


async def hand_in(world: World, transfer: TransferId, envelope: Envelope, settings: AgentSettings | None = None) -> TransferView:
    """Bring an approval to us, as an agent of us."""
    async with open_session(settings or world.us.agent, connections=1) as session:
        return await session.client.approve(transfer, ApproveRequest(approval=envelope.to_json()))


async def approve(world: World, transfer: TransferId, person: str, role: str, **changes: Any) -> TransferView:
    """Let a person approve what is open about a transfer."""
    return await hand_in(world, transfer, signed(request_of(await asked(world, transfer)), person, role, **changes))
