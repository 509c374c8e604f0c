"""Approves or rejects what a site holds: fetch the signed documents, build the request from them, sign it with a person's key.

What the gateway says in its own words is not used: the documents are verified against the trust bundle held here, and what a
person is shown, and signs, is built from them (P7).
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.identity import check_private
from agent.session import Session, now
from carnet.approval import Approval, DecisionRequest, Tally, Verdict, signing_time, tally
from carnet.decision import Decision
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, Conflict, Held, IntegrityError, NotAuthorised, PeerError
from carnet.identifiers import SiteName, TransferId
from carnet.keys import SigningKey, parse_private_key
from carnet.lane_mode import open_packing
from carnet.messages import ApprovalRequest, ApproveRequest, TransferView
from carnet.steps import Expected, verify_step
from carnet.timestamps import parse_time
from carnet.trust import Person, open_agent_statement
from carnet.waybill import Waybill

_KEY_BYTES_MAX = 4_096


@dataclass(frozen=True)
class Asked:
    """A verified request: what it is about, and what has been said about it."""

    request: DecisionRequest
    waybill: Waybill
    log_index: int
    """Where the hold is in the log of the origin."""
    tally: Tally


@dataclass(frozen=True)
class Signer:
    """A person of the trust bundle with the key in their hand, and the role in which they answer."""

    person: Person
    key: SigningKey
    role: str


async def fetch_request(session: Session, transfer: TransferId, destination: SiteName | None) -> Asked:
    """Return the request that is open about a transfer, towards `destination` if several are.

    Raises:
        Conflict: E-STATE if nothing waits for approval, E-APPROVALS if it has expired. CallerError: E-USAGE if several wait.
        IntegrityError, PeerError, NotFound, NotAuthorised, Held: a document is not what it has to be.
    """
    found = (await session.client.approval_requests(transfer)).requests
    wanted = [one for one in found if destination in {None, one.destination}]
    if not wanted:
        where = f" towards {destination}" if destination is not None else ""
        raise Conflict("E-STATE", f"nothing about transfer {transfer}{where} waits for approval")
    if len(wanted) > 1:
        names = ", ".join(one.destination for one in wanted)
        raise CallerError("E-USAGE", f"transfer {transfer} waits for approval towards {names}", remedy="name one with --to")
    return verify_request(session, transfer, wanted[0], now())


def verify_request(session: Session, transfer: TransferId, found: ApprovalRequest, at: datetime) -> Asked:
    """Return the request that the documents make.

    Steps: (1) the agent, by the word of its site, and not revoked; (2) the waybill, by the agent; (3) the packing list, of this
    waybill; (4) the hold, signed and in the log of the origin; (5) the trust bundle is the one it rests on; (6) it still runs.
    """
    bundle = session.bundle
    statement = open_agent_statement(parse_envelope(found.agent_statement), bundle)  # (1)
    session.revocations.require_agent(statement)
    waybill = Waybill.open(parse_envelope(found.waybill), [statement.signing_key])  # (2)
    if waybill.transfer != transfer:
        raise IntegrityError("E-SIGNATURE", f"the waybill is of transfer {waybill.transfer}, not {transfer}")
    origin = bundle.site(waybill.origin.site)
    packing = open_packing(parse_envelope(found.packing_list), waybill, statement.signing_key, bundle)  # (3)
    claimed = Decision.read_unverified(parse_envelope(found.hold.decision))
    hold = verify_step(  # (4)
        found.hold,
        site=origin,
        trust_domain=bundle.trust_domain,
        expected=Expected(
            gate=claimed.gate,
            transfer=transfer,
            waybill=waybill.digest,
            packing=packing.digest,
            destination=found.destination,
            recipient_key=claimed.recipient_key,
        ),
    )
    request = DecisionRequest.of(hold, waybill, statement)
    if request.trust_version != bundle.version:  # (5)
        text = f"the hold rests on trust bundle {request.trust_version}, here is {bundle.version}"
        raise Held("E-TRUST", text, remedy="wait until the site has decided again under its newest bundle")
    if at >= parse_time(request.not_after):  # (6)
        raise Conflict("E-APPROVALS", f"the request expired at {request.not_after}", remedy="the site asks anew: try again soon")
    revoked = session.revocations.revoked_keys(bundle)
    given = tally(map(parse_envelope, found.approvals), request, bundle, now=at, revoked=revoked)
    return Asked(request, waybill, found.hold.proof.index, given)


def choose_signer(session: Session, asked: Asked, key: SigningKey, role: str | None, verdict: Verdict) -> Signer:
    """Return who signs, and as what: the role named, or the only one of theirs that is still missing.

    Raises:
        NotAuthorised: E-NOT-ALLOWED if the bundle knows no such person, or they may not. CallerError: E-USAGE for the role.
    """
    request = asked.request
    person = next((one for one in session.bundle.people if key.public in one.keys), None)
    if person is None:
        text = f"the key {key.public.keyid} is nobody's in trust bundle {session.bundle.version}"
        raise NotAuthorised("E-NOT-ALLOWED", text, remedy="give your own key with --key, or ask the roots to name it")
    why = request.excludes(person)
    if why is not None and verdict is Verdict.APPROVE:
        raise NotAuthorised("E-NOT-ALLOWED", f"{person.name} {why}, and cannot approve it", remedy="ask another person")
    theirs = [one for one in request.needed if one in person.roles]
    if not theirs or (role is not None and role not in theirs):
        needed = ", ".join(request.needed)
        raise NotAuthorised("E-NOT-ALLOWED", f"{person.name} holds none of the roles that are asked for here: {needed}"
                            if role is None else f"{person.name} cannot answer as {role}; asked for: {needed}",
                            remedy="ask those whom `carnet transfer show` names")  # fmt: skip
    if role is not None:
        return Signer(person, key, role)
    missing = asked.tally.missing(request.needed)
    useful = [one for one in theirs if one in missing] or theirs
    if len(useful) > 1 and verdict is Verdict.APPROVE:
        raise CallerError("E-USAGE", f"{person.name} could answer as {' or '.join(useful)}", remedy="name one with --role")
    return Signer(person, key, useful[0])


def sign_answer(asked: Asked, signer: Signer, verdict: Verdict, reason: str | None) -> Envelope:
    """Return the person's word about the request, signed."""
    approval = Approval(
        request=asked.request.digest,
        person=signer.person.name,
        role=signer.role,
        verdict=verdict,
        reason=reason or None,
        at=signing_time(asked.request, now()),
    )
    return approval.sign(signer.key)


async def hand_in(session: Session, transfer: TransferId, envelope: Envelope) -> TransferView:
    """Bring the answer to the home site; return the transfer as it then is."""
    return await session.client.approve(transfer, ApproveRequest(approval=envelope.to_json()))


def read_person_key(path: Path) -> SigningKey:
    """Return the signing key in a file that only its owner can read; raise `CallerError` E-CONFIG naming the file otherwise."""
    try:
        check_private(path)
        with path.open("rb") as file:
            text = file.read(_KEY_BYTES_MAX).decode("ascii", "replace")
    except OSError as error:
        raise CallerError("E-CONFIG", f"{path} cannot be read: {error.strerror}", remedy="name your key with --key") from None
    try:
        key = parse_private_key(text)
    except PeerError:
        key = None
    if not isinstance(key, SigningKey):
        raise CallerError("E-CONFIG", f"{path} holds no signing key", remedy="name the file that `carnet key new` wrote")
    return key
