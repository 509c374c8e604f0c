"""Duties: what policy asks people to do about a transfer, by when, and whether a person has signed that it is done.

A duty is made in the transaction that records the decision which asks for it, and logged; it stays open until somebody of its
role signs a fulfilment. Who looks after the site sees the open ones, and policy can ask whether reviews of a lane are late.

Rules:      1. one duty a transfer and kind and words, however often it is decided; of reviews, one a delivery
            2. an open duty never ends by itself
            3. a review is not done by who asked for the transfer, owns its agent, or approved it, and who did it approves nothing
            after it  4. refusals of declarations of one agent, lane and repository make one duty as long as it is open
Layout:     site documents: duty/<id>; while it is open duty-open/<due>/<id>, and of a review duty-review/<lane>/<due>/<id>;
            document of the transfer: reviewed/<person>
Spec:       docs/policy.md section "Obligations"
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from carnet.approval import involvement
from carnet.decision import Obligation
from carnet.encoding import JsonValue, canonical
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import Conflict, NotFound
from carnet.fulfilment import Fulfilment, check_fulfilment
from carnet.identifiers import Digest, LaneName, SiteName, TransferId
from carnet.policy.obligations import KINDS, REVIEW, Duty, Nature, Report, read_obligation
from carnet.timestamps import format_time, parse_time
from carnet.trust import AgentStatement, TrustBundle
from gateway import documents
from gateway.ports import Transaction
from gateway.records import TransferRecord

_DUTY: Final = "duty/"
_OPEN: Final = "duty-open/"
_REVIEWS: Final = "duty-review/"
_ID_DIGITS: Final = 16
_COUNTED_MAX: Final = 1_000
_REVIEWS_COUNTED_MAX: Final = 100


@dataclass(frozen=True)
class KeptDuty:
    """One duty of this site; `done` is the fulfilment that ended it."""

    id: str
    transfer: TransferId
    lane: LaneName
    name: str
    """What it is about: repository and tag."""
    kind: str
    role: str
    channel: str | None
    made: str
    due: str
    done: dict[str, JsonValue] | None = None

    @property
    def words(self) -> str:
        """What is to be done, shortly."""
        whom = "anybody" if self.role == "everyone" else self.role
        where = f" to {self.channel}" if self.channel is not None else ""
        return f"{self.kind}{where} by {whom}"

    @property
    def fulfilment(self) -> Fulfilment | None:
        """What somebody signed about it, if it is done."""
        return None if self.done is None else Fulfilment.read_unverified(parse_envelope(self.done))


def make_duties(
    tx: Transaction,
    site: SiteName,
    record: TransferRecord,
    asked: tuple[Obligation, ...],
    *,
    at: str,
    decision: Digest | None = None,
    destination: SiteName | None = None,
) -> None:
    """Make and log the duties that a decision asks people for, unless they were made before (rule 1).

    Args:
        tx: where they are kept.
        site: this site.
        record: the transfer that it is about.
        asked: the obligations that bind.
        at: when it was decided.
        decision: of the signed decision, if there is one: a denial at the declaration is logged without.
        destination: whose delivery it is; None for a pull or a refused declaration, which nobody reviews.
    """
    is_refusal = decision is None
    for one in asked:
        kind = KINDS.get(one.kind)
        if kind is None or kind.nature is not Nature.PEOPLE:
            continue
        what: Duty = read_obligation(one)
        of: dict[str, JsonValue] = {"transfer": record.id}
        if is_refusal:
            of = {"agent": record.agent, "lane": record.lane, "repository": record.repository}
        named: dict[str, JsonValue] = {"site": site, **of, "kind": one.kind, "parameters": what.to_json()}
        if one.kind == REVIEW:
            if destination is None:
                continue
            named["destination"] = destination  # of several, the last may be let go when the first was reviewed
        duty = KeptDuty(
            id=_unused(tx, named) if is_refusal else _id(named),
            transfer=record.id,
            lane=record.lane,
            name=f"{record.repository}:{record.tag}",
            kind=one.kind,
            role=what.role,
            channel=what.channel if isinstance(what, Report) else None,
            made=at,
            due=format_time(parse_time(at) + timedelta(hours=what.within_h)),
        )
        if tx.site_document(_DUTY + duty.id) is not None:
            continue
        _keep(tx, duty)
        for name in _open_names(duty):
            tx.put_site_document(name, duty.id.encode("ascii"))
        rests_on: dict[str, JsonValue] = {} if decision is None else {"decision": decision}
        tx.append(EntryType.DUTY_MADE, {"transfer": record.id, "duty": duty.id, "what": duty.words, "due": duty.due, **rests_on})


def open_duties(tx: Transaction, *, limit: int | None = None) -> Iterator[KeptDuty]:
    """Yield the open duties, the one that is due first in front."""
    for body in tx.site_documents(_OPEN, limit=limit).values():
        yield find_duty(tx, body.decode("ascii"))


def count_duties(tx: Transaction) -> tuple[int, int]:
    """Return how many duties are open and in time, and how many are late: of the first 1 000."""
    return _counted(tx, _OPEN, tx.now, _COUNTED_MAX)


def all_duties(tx: Transaction) -> list[KeptDuty]:
    """Return every duty that is kept, by the time it is due."""
    return sorted((_read(body) for body in tx.site_documents(_DUTY).values()), key=lambda duty: (duty.due, duty.id))


def reviews_overdue(tx: Transaction, lane: str, now: datetime) -> int:
    """Return how many reviews of transfers on a lane are late; of more than a hundred, a hundred."""
    return _counted(tx, f"{_REVIEWS}{lane}/", now, _REVIEWS_COUNTED_MAX)[1]


def find_duty(tx: Transaction, duty: str) -> KeptDuty:
    """Return the duty of that id; raise `NotFound` E-DUTY-UNKNOWN if there is none."""
    body = tx.site_document(_DUTY + duty)
    if body is None:
        raise NotFound("E-DUTY-UNKNOWN", f"no duty {ascii(duty)[:80]} is kept here")
    return _read(body)


def fulfil(
    tx: Transaction, site: SiteName, envelope: Envelope, bundle: TrustBundle, *, now: datetime, revoked: frozenset[str]
) -> tuple[KeptDuty, Fulfilment]:
    """Close a duty by what a person signed, and log it; return both.

    Raises:
        NotFound: E-DUTY-UNKNOWN. Conflict: E-DUTY if it is done already, or the statement is of another site or time.
        NotAuthorised, IntegrityError, PeerError: see `check_fulfilment`.
    """
    claimed = Fulfilment.read_unverified(envelope)
    if claimed.site != site:
        raise Conflict(
            "E-DUTY", f"{claimed.person} signed about a duty of site {claimed.site}, this is {site}",
            remedy=f"give it to {claimed.site}, or sign it again with --site {site}",
        )  # fmt: skip
    duty = find_duty(tx, claimed.duty)
    said = check_fulfilment(
        envelope,
        bundle,
        role=duty.role,
        made=duty.made,
        excluded=_parties(tx, duty, bundle) if duty.kind == REVIEW else frozenset(),
        now=now,
        revoked=revoked,
    )
    if duty.done is not None:
        raise Conflict("E-DUTY", f"the duty {duty.id} ({duty.words}) is done already")
    done = replace(duty, done=envelope.to_json())
    _keep(tx, done)
    for name in _open_names(duty):
        tx.delete_site_document(name)
    if duty.kind == REVIEW:
        tx.put_document(duty.transfer, documents.reviewed_name(said.person), said.digest.encode("ascii"))
    tx.append(
        EntryType.DUTY_DONE,
        {"transfer": duty.transfer, "duty": duty.id, "fulfilment": said.digest, "person": said.person, "due": duty.due},
    )
    return done, said


def _id(named: dict[str, JsonValue]) -> str:
    return Digest.of(canonical(named)).hex[:_ID_DIGITS]


def _unused(tx: Transaction, named: dict[str, JsonValue]) -> str:
    """Return the id of the duty that is open, or of the next one: those that were done stay what they are (rule 4)."""
    ids = (_id({**named, "number": number}) for number in count(1))
    return next(one for one in ids if (body := tx.site_document(_DUTY + one)) is None or _read(body).done is None)


def _parties(tx: Transaction, duty: KeptDuty, bundle: TrustBundle) -> frozenset[str]:
    """Return the names of those who had a part in the transfer (rule 3)."""
    body = documents.need(tx, duty.transfer, documents.AGENT_STATEMENT)
    statement = AgentStatement.read_unverified(documents.read_envelope(body))
    initiator = documents.read_waybill(tx, duty.transfer).origin.initiator
    found = {person.name for person in bundle.people if involvement(person, statement, initiator) is not None}
    return frozenset(found | {name.rpartition("/")[2] for name in tx.documents(duty.transfer, documents.APPROVAL)})


def _keep(tx: Transaction, duty: KeptDuty) -> None:
    said: dict[str, JsonValue] = {
        name: value
        for name in ("id", "transfer", "lane", "name", "kind", "role", "channel", "made", "due", "done")
        if (value := getattr(duty, name)) is not None
    }
    tx.put_site_document(_DUTY + duty.id, canonical(said))


def _read(body: bytes) -> KeptDuty:
    said: dict[str, Any] = json.loads(body)
    return KeptDuty(
        id=said["id"],
        transfer=TransferId(said["transfer"]),
        lane=LaneName(said["lane"]),
        name=said["name"],
        kind=said["kind"],
        role=said["role"],
        channel=said.get("channel"),
        made=said["made"],
        due=said["due"],
        done=said.get("done"),
    )


def _open_names(duty: KeptDuty) -> list[str]:
    """Return the documents that say that the duty is open: what is due first comes first."""
    by_lane = [f"{_REVIEWS}{duty.lane}/{duty.due}/{duty.id}"] if duty.kind == REVIEW else []
    return [f"{_OPEN}{duty.due}/{duty.id}", *by_lane]


def _counted(tx: Transaction, prefix: str, now: datetime, most: int) -> tuple[int, int]:
    """Return how many documents below `prefix` have their time to come, and how many had it before `now`."""
    dues = [name.removeprefix(prefix).partition("/")[0] for name in tx.site_documents(prefix, limit=most)]
    late = sum(due < format_time(now) for due in dues)
    return len(dues) - late, late
