"""What people vouched for and this site keeps: licences and attestations, and the facts that policy reads from them.

Rules:      1. a document counts as long as a person signs it whose role the policy in force names for the fact, by a key that is
               not revoked: it is asked at every decision, so whoever loses the role loses their word
            2. what is out of its time, or contradicts what is known otherwise, makes no fact; of lists all members count
            3. a later edition replaces an earlier one; an earlier one does not come back, also not after a withdrawal
Spec:       docs/policy.md sections "Licences" and "Attestations"
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Final

from pydantic import TypeAdapter, ValidationError

from carnet.attestation import Attestation, Subject
from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, CapacityError, CarnetError, Conflict, NotFound
from carnet.identifiers import SiteName
from carnet.licence import Licence, LicenceId, Used, leaves_room
from carnet.policy import Assurance, Fact, Facts, Groups, Policy, make_fact
from carnet.policy.facts import AGES, FACTS, FactValue, fact_type, is_attestable, supplier
from carnet.policy.mistakes import nearest
from carnet.signers import signers
from carnet.timestamps import parse_time
from carnet.trust import HOME_LANE, Person, TrustBundle
from gateway.ports import Transaction
from gateway.recheck_round import ask_for_round

LICENCE: Final = "licence/"
ATTESTATION: Final = "attestation/"
_EDITION: Final = "edition/"
_PLACE: Final = "attestation-place/"
"""Before the id: where the attestation of that id is kept, for it is found by what it is about."""
_ABOUT: Final = {"site": "recipient.site", "identity": "recipient.identity", "repository": "artifact.repository", "lane": "lane"}
_LICENCE_ID: Final[TypeAdapter[str]] = TypeAdapter(LicenceId)
ATTESTATIONS_MAX: Final = 256
"""Attestations about one thing: each decision about it reads all of them."""


@dataclass(frozen=True)
class Trusted:
    """Whose word counts: the people of the bundle, without revoked keys, in the roles that the policy names."""

    bundle: TrustBundle
    revoked: frozenset[str]
    policy: Policy

    def signers(self, envelope: Envelope, payload_type: str) -> tuple[Person, ...]:
        """Return who signed; nobody if a signature is wrong."""
        try:
            return signers(envelope, payload_type, self.bundle, revoked=self.revoked)
        except CarnetError:
            return ()

    def vouchers(self, people: Iterable[Person], name: str) -> list[str]:
        """Return the names of those of `people` whose word counts for the fact `name`."""
        return [one.name for one in people if any(self.policy.may_attest(role, name) for role in one.roles)]


@dataclass(frozen=True)
class Vouched:
    """What people make known about one question; `until` is when the first of it ends."""

    facts: Mapping[str, Fact]
    signed: Mapping[str, FactValue] = field(default_factory=dict)
    """Of facts that are ages, what was signed: it stays the same while they grow."""
    until: datetime | None = None
    licence: Licence | None = None
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """What in a paper can count nowhere: the place of it, and what is wrong in one sentence."""

    place: tuple[str | int, ...]
    said: str


def first_mistake(paper: Licence | Attestation, groups: Groups) -> Mistake | None:
    """Return the first thing in a paper that can count nowhere, or None: it is found before anybody signs or keeps it.

    Of a licence: a destination that is no code, for nothing is there to be covered. Of an attestation: a fact that there is not,
    that people cannot vouch for, of another type, or with a code that there is not.
    """
    if isinstance(paper, Licence):
        code = _strange_code(paper.destinations, groups)
        return None if code is None else Mistake(("destinations", paper.destinations.index(code)), _no_code(code))
    found = ((name, _fact_mistake(paper, name, groups)) for name in paper.facts)
    return next((Mistake(("facts", name), said) for name, said in found if said is not None), None)


def stranger(about: Subject, bundle: TrustBundle) -> str | None:
    """Return what an attestation is about and the trust bundle does not name, in words, or None; it may name it later."""
    site = about.identity.site if about.identity is not None else about.site
    if site is not None and all(one.name != site for one in bundle.sites):
        return f"no site of trust bundle {bundle.version} is called {site}"
    if about.lane is not None and about.lane != HOME_LANE and all(one.name != about.lane for one in bundle.lanes):
        return f"no lane of trust bundle {bundle.version} is called {about.lane}"
    return None


def vouch(
    tx: Transaction, trusted: Trusted, known: Facts, *, site: SiteName, used: Used, artifact: str | None, now: datetime
) -> Vouched:
    """Return the facts that licences and attestations add to what is `known`.

    Args:
        tx: where they are kept.
        trusted: whose word counts.
        known: declared and derived facts.
        site: this site, whose share of the licence is asked about.
        used: what it has used of it, this release left out.
        artifact: the digest of the artifact, if it is known.
        now: the time of the decision.
    """
    found: dict[str, Fact] = {}
    signed: dict[str, FactValue] = {}
    ends: list[datetime] = []
    conflicts: list[str] = []
    licence = declared_licence(tx, known)
    if licence is not None:
        envelope, content = licence
        by = trusted.vouchers(trusted.signers(envelope, Licence.payload_type), "licence.kind")
        if by:
            found.update(_licence_facts(content, known, site, used, now, by))
            ends += [] if not content.is_valid_on(now.date()) else [_end_of(content.valid_until)]
    for envelope, statement in _attestations(tx, known, artifact):
        if not statement.holds_at(now):
            continue
        people = trusted.signers(envelope, Attestation.payload_type)
        for name in sorted(statement.facts):
            by = trusted.vouchers(people, name) if is_attestable(name) else []
            if not by:
                continue
            problem = _join(found, known, name, _attested(statement, name, now, by))
            conflicts += [] if problem is None else [problem]
            ends.append(parse_time(statement.not_after))
            if name in AGES and name in found:
                signed[name] = _attested(statement, name, parse_time(statement.at), by).value
    kept = None if licence is None else licence[1]
    return Vouched(found, signed, min(ends, default=None), kept, tuple(conflicts))


def declared_licence(tx: Transaction, known: Facts) -> tuple[Envelope, Licence] | None:
    """Return the licence that a sender declared, if this site keeps one of that id."""
    declared = known.get("export.licence")
    if declared is None or not isinstance(declared.value, str) or not _is_licence_id(declared.value):
        return None
    body = tx.site_document(LICENCE + declared.value)
    if body is None:
        return None
    envelope = parse_envelope(body)
    return envelope, Licence.read_unverified(envelope)


def worth(known: Facts, licence: Licence) -> int | None:
    """Return what the goods are worth in the currency of the licence, or None if that was not declared."""
    value, currency = known.get("export.value"), known.get("export.currency")
    if value is None or currency is None or currency.value != licence.currency:
        return None
    return value.value if isinstance(value.value, int) else None


def keep_licence(tx: Transaction, envelope: Envelope) -> Licence:
    """Keep a licence that people signed, and log it; raise `Conflict` E-EDITION unless it is newer than the one known."""
    licence = Licence.read_unverified(envelope)
    _take_edition(tx, f"licence {licence.id}", licence.edition)
    tx.put_site_document(LICENCE + licence.id, envelope.encode())
    tx.append(EntryType.LICENCE_RECORDED, {"licence": licence.id, "edition": licence.edition, "document": licence.digest})
    ask_for_round(tx)
    return licence


def keep_attestation(tx: Transaction, envelope: Envelope) -> Attestation:
    """Keep an attestation that people signed, and log it.

    Raises:
        CallerError: E-POLICY if it has a fact that people cannot vouch for, or one of another type.
        Conflict: E-EDITION unless it is newer than the one known. CapacityError: E-LIMIT ATTESTATIONS_MAX.
    """
    statement = Attestation.read_unverified(envelope)
    said = next((said for name in statement.facts if (said := _fact_mistake(statement, name)) is not None), None)
    if said is not None:
        raise CallerError("E-POLICY", f"attestation {statement.id}: {said}", remedy="have it corrected, and signed again")
    _take_edition(tx, f"attestation {statement.id}", statement.edition)
    _forget_attestation(tx, statement.id)
    place = _prefix(statement.about.key)
    if len(tx.site_documents(place)) >= ATTESTATIONS_MAX:
        raise CapacityError(
            "E-LIMIT", f"{ATTESTATIONS_MAX} attestations about {statement.about.key} are kept already", limit="ATTESTATIONS_MAX",
            remedy="withdraw those that are over: `carnet-gateway attest list DIR`",
        )  # fmt: skip
    name = place + statement.id
    tx.put_site_document(name, envelope.encode())
    tx.put_site_document(_PLACE + statement.id, name.encode("ascii"))
    tx.append(
        EntryType.ATTESTATION_RECORDED,
        {"attestation": statement.id, "edition": statement.edition, "about": statement.about.key, "document": statement.digest},
    )
    ask_for_round(tx)
    return statement


def withdraw_licence(tx: Transaction, licence: str, reason: str) -> None:
    """Take a licence out of use here, and log it; raise `NotFound` E-LICENCE-UNKNOWN if there is none."""
    if tx.site_document(LICENCE + licence) is None:
        raise NotFound("E-LICENCE-UNKNOWN", f"no licence {ascii(licence)[:80]} is kept here")
    tx.delete_site_document(LICENCE + licence)
    tx.append(EntryType.LICENCE_WITHDRAWN, {"licence": licence, "reason": reason})
    ask_for_round(tx)


def withdraw_attestation(tx: Transaction, attestation: str, reason: str) -> None:
    """Take an attestation out of use here, and log it; raise `NotFound` E-ATTESTATION-UNKNOWN if there is none."""
    if not _forget_attestation(tx, attestation):
        raise NotFound("E-ATTESTATION-UNKNOWN", f"no attestation {ascii(attestation)[:80]} is kept here")
    tx.append(EntryType.ATTESTATION_WITHDRAWN, {"attestation": attestation, "reason": reason})
    ask_for_round(tx)


def licences(tx: Transaction) -> list[tuple[Envelope, Licence]]:
    """Return every licence that is kept, by id."""
    kept = [parse_envelope(body) for _, body in sorted(tx.site_documents(LICENCE).items())]
    return [(envelope, Licence.read_unverified(envelope)) for envelope in kept]


def attestations(tx: Transaction) -> list[tuple[Envelope, Attestation]]:
    """Return every attestation that is kept, by id."""
    kept = [parse_envelope(body) for body in tx.site_documents(ATTESTATION).values()]
    return sorted(((envelope, Attestation.read_unverified(envelope)) for envelope in kept), key=lambda one: one[1].id)


def _fact_mistake(statement: Attestation, name: str, groups: Groups | None = None) -> str | None:
    """Return what is wrong with one fact of an attestation; codes are looked up if `groups` are given."""
    shown, kind = ascii(name)[1:-1][:80], fact_type(name)
    if kind is None:
        meant = nearest(name, FACTS)
        return f"no fact is called {shown}" + (f"; is {meant} meant?" if meant is not None else "")
    if not is_attestable(name):
        return f"{shown} is no fact that people can vouch for: it comes from {supplier(name).value}"
    try:
        value = _attested(statement, name, parse_time(statement.at), []).value
    except CallerError as error:
        return error.problem
    if groups is None or not kind.is_code:
        return None
    code = _strange_code(value if isinstance(value, tuple) else (str(value),), groups)
    return None if code is None else f"{shown}: {_no_code(code)}"


def _strange_code(codes: Iterable[str], groups: Groups) -> str | None:
    return next((code for code in codes if groups.have_codes and not groups.knows(code)), None)


def _no_code(code: str) -> str:
    return f"no file of groups knows the code {ascii(code)[1:-1][:80]}; write that of ISO 3166, such as GB for the United Kingdom"


def _is_licence_id(text: str) -> bool:
    try:
        _LICENCE_ID.validate_python(text)
    except ValidationError:
        return False
    return True


def _licence_facts(licence: Licence, known: Facts, site: SiteName, used: Used, now: datetime, by: list[str]) -> dict[str, Fact]:
    def text(name: str) -> str | None:
        fact = known.get(name)
        return fact.value if fact is not None and isinstance(fact.value, str) else None

    parties = known.get("parties.names")
    said: dict[str, JsonValue] = {
        "licence.kind": licence.kind,
        "licence.valid": licence.is_valid_on(now.date()),
        "licence.covers": licence.covers(
            item=text("export.number"),
            parties=parties.value if parties is not None and isinstance(parties.value, tuple) else (),
            operator=text("destination.operator") or "",
            jurisdiction=text("destination.jurisdiction") or "",
        ),
        "licence.remaining": leaves_room(licence.share(site), used, value=worth(known, licence)),
        "licence.assessment_days": licence.assessment_days(now.date()),
    }
    source = f"licence {licence.id}, edition {licence.edition}, by {', '.join(by)}"[:255]
    return {name: make_fact(name, value, Assurance.ATTESTED, source) for name, value in said.items() if value is not None}


def _attestations(tx: Transaction, known: Facts, artifact: str | None) -> list[tuple[Envelope, Attestation]]:
    """Return what is kept about the recipient, its site, the repository, the lane and the artifact."""
    keys = [f"{kind}:{known[name].value}" for kind, name in _ABOUT.items() if name in known]
    keys += [] if artifact is None else [f"artifact:{artifact}"]
    found = []
    for key in keys:
        for body in tx.site_documents(_prefix(key)).values():
            envelope = parse_envelope(body)
            found.append((envelope, Attestation.read_unverified(envelope)))
    return found


def _join(found: dict[str, Fact], known: Facts, name: str, fact: Fact) -> str | None:
    """Put an attested fact beside the others (rule 2); return what it contradicts, which then is no fact."""
    other = found.get(name) or known.get(name)
    if other is None or other.value == fact.value:
        found[name] = fact
        return None
    if name in found and isinstance(other.value, tuple) and isinstance(fact.value, tuple):
        united = tuple(sorted({*other.value, *fact.value}))
        found[name] = Fact(united, Assurance.ATTESTED, f"{other.source}; {fact.source}"[:255])
        return None
    return f"{name}: {other.source} and {fact.source} say different things"


def _attested(statement: Attestation, name: str, now: datetime, by: list[str]) -> Fact:
    source = f"attestation {statement.id}, edition {statement.edition}, by {', '.join(by)}"
    return make_fact(name, statement.value(name, now, AGES.get(name)), Assurance.ATTESTED, source[:255])


def _end_of(day: str) -> datetime:
    return datetime.combine(datetime.fromisoformat(day).date() + timedelta(days=1), time(0), UTC)


def _prefix(key: str) -> str:
    return f"{ATTESTATION}{hashlib.sha256(key.encode('utf-8')).hexdigest()}/"


def _forget_attestation(tx: Transaction, attestation: str) -> bool:
    """Remove the attestation of that id, whatever it is about; tell whether there was one."""
    place = tx.site_document(_PLACE + attestation)
    if place is None:
        return False
    tx.delete_site_document(place.decode("ascii"))
    tx.delete_site_document(_PLACE + attestation)
    return True


def _take_edition(tx: Transaction, what: str, edition: int) -> None:
    name = _EDITION + what
    known = tx.site_document(name)
    if known is not None and edition <= int(known):
        raise Conflict(
            "E-EDITION", f"{what} is known in edition {int(known)}; edition {edition} is not newer",
            remedy="give the new one a higher edition, and have it signed",
        )  # fmt: skip
    tx.put_site_document(name, str(edition).encode("ascii"))
