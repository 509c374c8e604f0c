"""The fulfilment: a person's signed word that a duty was done, such as the review of an emergency release.

Rules:      1. a key of that person signed it, and the role is theirs now  2. it is about one duty of one site
            3. who asked for a transfer, owns its agent or approved it does not review it
Spec:       docs/statements.md section "Fulfilment"; docs/policy.md section "Obligations"
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import Field

from carnet.envelope import Envelope
from carnet.errors import Conflict, NotAuthorised
from carnet.identifiers import AgentName, SiteName
from carnet.policy.obligations import EVERYONE
from carnet.revocation import CLOCK_AHEAD
from carnet.statement import Statement, Text, Word
from carnet.timestamps import Timestamp, parse_time
from carnet.trust import Person, TrustBundle

DutyId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""The first 16 digits of the SHA-256 of what the duty is."""


class Fulfilment(Statement):
    """One person's word about one duty; `note` says what they did or found."""

    payload_type: ClassVar[str] = "application/vnd.carnet.fulfilment.v1+json"

    site: SiteName
    duty: DutyId
    person: AgentName
    role: Word
    note: Text
    at: Timestamp


def check_fulfilment(
    envelope: Envelope,
    bundle: TrustBundle,
    *,
    role: str,
    made: str,
    excluded: Collection[str],
    now: datetime,
    revoked: Collection[str] = frozenset(),
) -> Fulfilment:
    """Return the fulfilment in `envelope` if it counts; that it is about the duty at hand is the caller's to compare.

    Args:
        envelope: what the person signed.
        bundle: who is who.
        role: the role that the duty asks for.
        made: when the duty was made; nobody did it before.
        excluded: names of those whose word about it does not count.
        now: the time at the site.
        revoked: ids of keys that sign nothing any more.

    Raises:
        PeerError: E-FORMAT. IntegrityError: E-SIGNATURE. NotAuthorised: E-NOT-ALLOWED. Conflict: E-DUTY for its time.
    """
    claimed = Fulfilment.read_unverified(envelope)
    person = next((one for one in bundle.people if one.name == claimed.person), None)
    if person is None:
        raise NotAuthorised(
            "E-NOT-ALLOWED", f"nobody called {claimed.person} is in trust bundle {bundle.version}",
            remedy="a person whom the trust bundle names has to sign; `carnet-gateway trust show DIR` shows who they are",
        )  # fmt: skip
    said = Fulfilment.open(envelope, [key for key in person.keys if key.keyid not in revoked])
    _require_role(said, person, role)
    if said.person in excluded:
        problem = f"{said.person} had a part in what is to be reviewed"
        raise NotAuthorised("E-NOT-ALLOWED", problem, remedy="ask another person of the role")
    if not parse_time(made) - CLOCK_AHEAD <= parse_time(said.at) <= now + CLOCK_AHEAD:
        raise Conflict(
            "E-DUTY", f"{said.person} signed at {said.at}; the duty was made at {made}",
            remedy="sign it again, on a machine whose clock is right, once it is done",
        )  # fmt: skip
    return said


def _require_role(said: Fulfilment, person: Person, role: str) -> None:
    """Refuse a role that the person does not hold, or another than the duty asks for."""
    if said.role not in person.roles:
        problem = f"{person.name} does not hold the role {said.role}"
    elif role not in (EVERYONE, said.role):
        problem = f"the duty is for {role}, and {person.name} signed it as {said.role}"
    else:
        return
    own = next((one for one in person.roles if role in (EVERYONE, one)), None)
    remedy = f"ask a person of the role {role}" if own is None else f"sign it again, with --as {person.name}:{own}"
    raise NotAuthorised("E-NOT-ALLOWED", problem, remedy=remedy)
