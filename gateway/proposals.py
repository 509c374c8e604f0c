"""The trust bundle in the making: proposed by operators, signed by offline roots, imported by each site.

A proposal is the bundle's envelope with the signatures it has so far, in a file that travels from root to root. Values in, values
out; the commands read and write the files.

Rules:      1. a proposal follows one bundle: its version is one more  2. a changed proposal loses its signatures
            3. whatever does not fit together is refused before anyone signs it
Spec:       docs/operations.md section "Trust bundles"; docs/statements.md section "Trust bundle"
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, PeerError
from carnet.identifiers import AgentName, LaneName, SiteName
from carnet.keys import SigningKey, VerifyingKey, parse_public_key
from carnet.limits import TRUST_BUNDLE_BYTES_MAX
from carnet.statement import parse_model
from carnet.suites import SUITE_1
from carnet.timestamps import format_time
from carnet.trust import (
    ApprovalFloor,
    Carriage,
    Lane,
    LaneMode,
    Person,
    ReleaseFloor,
    Roots,
    Route,
    Site,
    SiteCard,
    TrustBundle,
)

EXPIRES_DAYS: Final = 90
"""Default life of a bundle; the workflow of renewing it is one `propose --from`, the signatures, one import a site."""
ROLES: Final = ("auditor", "export-control", "legal", "operator", "privacy", "security")
"""Roles that are usual; any other word is one once somebody says that it is meant."""
_LANE_FORM: Final = "write NAME=ORIGIN:DEST[,DEST]...[:sealed], or ...:inspected:RELAY[+RELAY]...[@store][/direct] over relays"
_KEY_HEX_CHARS = 64
_CARD_BYTES_MAX = 128 * 1024
_FILE_BYTES_MAX = 64 * 1024
Named = TypeVar("Named", Site, Lane, Person)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What differs from the bundle before; entries of a name that is there replace it, `without` removes."""

    roots: tuple[VerifyingKey, ...] = ()
    threshold: int | None = None
    cards: tuple[SiteCard, ...] = ()
    lanes: tuple[Lane, ...] = ()
    people: tuple[Person, ...] = ()
    floors: tuple[tuple[LaneName, ReleaseFloor], ...] = ()
    """What lanes, new ones or those of the bundle before, ask for before a key leaves."""
    policy_owners: tuple[AgentName, ...] | None = None
    """Who signs policies, in place of those before; empty: nobody need."""
    without: tuple[str, ...] = ()
    """Names of sites, lanes and people that the new bundle lacks."""
    life: timedelta = timedelta(days=EXPIRES_DAYS)


def propose(current: TrustBundle | None, change: Change, now: datetime) -> TrustBundle:
    """Return the bundle that follows `current` (None: the first one), with `change`; nothing is signed yet.

    Raises:
        CallerError: E-USAGE naming what is missing or does not fit together.
    """
    return _build(current, change, (current.version if current else 0) + 1, now)


def amend(pending: TrustBundle, change: Change, now: datetime) -> TrustBundle:
    """Return a pending proposal with one more change, under the same version; raises as `propose`."""
    return _build(pending, change, pending.version, now)


def check_roles(before: TrustBundle | None, change: Change, new_roles: tuple[str, ...]) -> None:
    """Refuse a role that nobody has met: a misspelt one would be signed by the roots, and nobody could ever answer in it.

    Raises:
        CallerError: E-USAGE naming the role, unless it is usual, in the bundle before, or one of `new_roles`.
    """
    known = {*ROLES, *new_roles}
    if before is not None:
        known.update(role for person in before.people for role in person.roles)
        known.update(one.role for lane in before.lanes for one in lane.release_floor.approvals)
    given = [role for person in change.people for role in person.roles]
    given += [one.role for _, floor in change.floors for one in floor.approvals]
    unknown = next((role for role in given if role not in known), None)
    if unknown is not None:
        raise CallerError(
            "E-USAGE",
            f"no role is called {unknown}; there are {', '.join(sorted(known))}",
            remedy=f"correct it, or add --new-role {unknown} if your policies name it",
        )


def unmet_floors(bundle: TrustBundle) -> list[str]:
    """Return a line for each approval that a lane asks for and that too few people of the bundle could give."""
    return [
        f"lane {lane.name} asks for {one.count} of {one.role}, a role that {len(bundle.people_with(one.role))} of the bundle hold"
        for lane in bundle.lanes
        for one in lane.release_floor.approvals
        if len(bundle.people_with(one.role)) < one.count
    ]


def unsigned(bundle: TrustBundle) -> Envelope:
    """Return the envelope that roots will sign."""
    return Envelope(TrustBundle.payload_type, bundle.payload(), ())


def read_proposal(path: Path) -> tuple[Envelope, TrustBundle]:
    """Return envelope and bundle of a file, signatures unverified; raise `CallerError` E-CONFIG naming the file if it is none."""
    data = read_bounded(path, TRUST_BUNDLE_BYTES_MAX)
    try:
        envelope = parse_envelope(data, bytes_max=TRUST_BUNDLE_BYTES_MAX)
        return envelope, TrustBundle.read_unverified(envelope)
    except PeerError as error:
        raise CallerError(
            "E-CONFIG", f"{path} is not a trust bundle: {error.problem}", remedy="name a proposal or a bundle"
        ) from None


def sign_proposal(envelope: Envelope, key: SigningKey) -> Envelope:
    """Return the envelope with the signature of a root: one of the bundle's own, or of the one it replaces.

    Whether the key is a root of the bundle before cannot be seen from the file, so any key may sign; `signed_roots` counts.
    """
    return envelope.with_signature(key)


def signed_roots(envelope: Envelope, bundle: TrustBundle) -> tuple[VerifyingKey, ...]:
    """Return those of the bundle's own roots whose key ids are among the signatures; import verifies them."""
    signers = {signature.keyid for signature in envelope.signatures}
    return tuple(key for key in bundle.roots.keys if key.keyid in signers)


def read_card(path: Path) -> SiteCard:
    """Return the site card in a file; raise `CallerError` E-CONFIG naming the file and what is wrong."""
    try:
        return parse_model(SiteCard, read_bounded(path, _CARD_BYTES_MAX), bytes_max=_CARD_BYTES_MAX)
    except PeerError as error:
        raise CallerError("E-CONFIG", f"{path} is not a site card: {error.problem}", remedy="name a site-card.json") from None


def parse_public(text: str) -> VerifyingKey:
    """Return a public signing key given as 64 hex digits, as its line, or as the path of a file with that line."""
    if len(text) == _KEY_HEX_CHARS and "/" not in text and not Path(text).exists():
        return VerifyingKey.from_hex(text)
    line = text if text.startswith("carnet-") else read_bounded(Path(text), _FILE_BYTES_MAX).decode("ascii", "replace")
    try:
        key = parse_public_key(line)
    except PeerError:
        key = None
    if not isinstance(key, VerifyingKey):
        raise CallerError(
            "E-USAGE", f"not a public signing key: {ascii(text)[:120]}", remedy="name the .pub file that `new-root` wrote"
        )
    return key


def parse_lane(text: str) -> Lane:
    """Return the lane in `NAME=ORIGIN:DEST[,DEST]...[:MODE[:ROUTE[/ROUTE]...]]`; raise `CallerError` E-USAGE otherwise.

    MODE is `inspected` or `sealed`; ROUTE is `direct` or `RELAY[+RELAY]...[@store]`, and the first that can be used is taken.
    """
    name, _, way = text.partition("=")
    pieces = way.split(":")
    if not name or len(pieces) not in {2, 3, 4} or pieces[2:3] not in ([], ["sealed"], ["inspected"]):
        raise CallerError("E-USAGE", f"not a lane: {ascii(text)[:120]}", remedy=_LANE_FORM)
    try:
        return Lane(
            name=LaneName(name),
            origin=SiteName(pieces[0]),
            destinations=tuple(SiteName(site) for site in pieces[1].split(",")),
            mode=LaneMode(pieces[2]) if pieces[2:] else LaneMode.INSPECTED,
            routes=tuple(_parse_route(route) for route in pieces[3].split("/")) if pieces[3:] else (Route(),),
            suites=(SUITE_1,),
        )
    except ValidationError as error:
        raise CallerError("E-USAGE", f"lane {ascii(name)[:80]}: {_first(error)}", remedy=_LANE_FORM) from None


def _parse_route(text: str) -> Route:
    relays, mark, carriage = text.partition("@")
    if text == "direct":
        return Route()
    if mark and carriage not in set(Carriage):
        raise CallerError("E-USAGE", f"a relay does not carry by {ascii(carriage)[:40]}", remedy=_LANE_FORM)
    return Route(
        relays=tuple(SiteName(site) for site in relays.split("+")),
        carriage=Carriage(carriage) if mark else Carriage.TRANSIT,
    )


def parse_person(text: str) -> Person:
    """Return the person in `NAME=PUBLIC-KEY:role[,role]...`; raise `CallerError` E-USAGE otherwise."""
    name, _, rest = text.partition("=")
    key, mark, roles = rest.rpartition(":")
    if not name or not mark or not key:
        raise CallerError("E-USAGE", f"not a person: {ascii(text)[:120]}", remedy="write NAME=PUBLIC-KEY:role[,role]...")
    try:
        return Person(name=AgentName(name), keys=(parse_public(key),), roles=tuple(role for role in roles.split(",") if role))
    except ValidationError as error:
        raise CallerError("E-USAGE", f"person {ascii(name)[:80]}: {_first(error)}") from None


def parse_floor(text: str) -> tuple[LaneName, ReleaseFloor]:
    """Return lane and floor in `LANE=ROLE:COUNT[,ROLE:COUNT]...`, or `LANE=none`; raise `CallerError` E-USAGE otherwise."""
    name, mark, rest = text.partition("=")
    pieces = [] if rest == "none" else [piece.rpartition(":") for piece in rest.split(",")]
    if not mark or not all(role and count.isascii() and count.isdigit() for role, _, count in pieces):
        raise CallerError(
            "E-USAGE", f"not a floor: {ascii(text)[:120]}", remedy="write LANE=ROLE:COUNT[,ROLE:COUNT]... or LANE=none"
        )
    try:
        needs = tuple(ApprovalFloor(role=role, count=int(count)) for role, _, count in pieces)
        return LaneName(name), ReleaseFloor(approvals=needs)
    except ValidationError as error:
        raise CallerError("E-USAGE", f"floor of {ascii(name)[:80]}: {_first(error)}") from None


def read_bounded(path: Path, bytes_max: int) -> bytes:
    """Return the content of a small file; raise `CallerError` E-CONFIG naming it if it is missing, unreadable or longer."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        reason = (error.strerror or "input/output error").lower()
        raise CallerError("E-CONFIG", f"{path} cannot be read: {reason}", remedy="name a file that exists") from None
    if len(data) > bytes_max:
        raise CallerError("E-CONFIG", f"{path} is longer than {bytes_max} bytes")
    return data


def _build(before: TrustBundle | None, change: Change, version: int, now: datetime) -> TrustBundle:
    keys = change.roots or (before.roots.keys if before else ())
    if not keys:
        raise CallerError("E-USAGE", "a first bundle needs its roots", remedy="give --root for each, and --threshold")
    _check_names(before, change)
    lanes = before.lanes if before else ()
    threshold = change.threshold or (before.roots.threshold if before and not change.roots else len(keys))
    sites = _merge(before.sites if before else (), (card.site() for card in change.cards), change.without)
    if not sites:
        raise CallerError("E-USAGE", "a bundle needs at least one site", remedy="give --site for each site-card.json")
    people = _merge(before.people if before else (), change.people, change.without)
    _check_roots(keys, sites, people)
    try:
        return TrustBundle(
            version=version,
            issued=format_time(now),
            expires=format_time(now + change.life),
            trust_domain=_trust_domain(before, change.cards),
            roots=Roots(keys=keys, threshold=threshold),
            sites=sites,
            lanes=_with_floors(_merge(lanes, change.lanes, change.without), lanes, dict(change.floors)),
            people=people,
            policy_owners=_owners(before, change),
            witnesses=before.witnesses if before else (),
        )
    except ValidationError as error:
        raise CallerError(
            "E-USAGE", f"the bundle does not fit together: {_first(error)}", remedy="correct what is named"
        ) from None


def _owners(before: TrustBundle | None, change: Change) -> tuple[AgentName, ...]:
    owners = change.policy_owners if change.policy_owners is not None else (before.policy_owners if before else ())
    if len(set(owners)) == 1:
        raise CallerError("E-USAGE", f"{owners[0]} would own policies alone, and two sign one", remedy="name two owners, or none")
    return owners


def _check_names(before: TrustBundle | None, change: Change) -> None:
    """Refuse to leave out what is not there, and to say twice what something is."""
    there: set[str] = set()
    if before is not None:
        there = {site.name for site in before.sites} | {lane.name for lane in before.lanes} | {one.name for one in before.people}
    absent = next((name for name in change.without if name not in there), None)
    if absent is not None:
        raise CallerError(
            "E-USAGE", f"no site, lane or person {ascii(absent)[:80]} to leave out", remedy="name one of the bundle before"
        )
    named: dict[str, list[str]] = {
        "site": [entry.name for entry in change.cards],
        "lane": [entry.name for entry in change.lanes],
        "person": [entry.name for entry in change.people],
    }
    for what, names in named.items():
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise CallerError("E-USAGE", f"{what} {twice} is given twice", remedy="give it once")


def _check_roots(roots: Iterable[VerifyingKey], sites: Iterable[Site], people: Iterable[Person]) -> None:
    """Refuse a root key with a second use: roots stay offline, and whoever signs with them every day does not."""
    others = {site.signing_key: f"the signing key of site {site.name}" for site in sites}
    others |= {key: f"a key of {person.name}" for person in people for key in person.keys}
    for key in roots:
        if key in others:
            raise CallerError(
                "E-USAGE", f"root key {key.keyid} is {others[key]} too", remedy="make another key: a root signs bundles alone"
            )


def _trust_domain(before: TrustBundle | None, cards: Iterable[SiteCard]) -> str:
    domains = ({before.trust_domain} if before else set()) | {card.trust_domain for card in cards}
    if len(domains) != 1:
        raise CallerError("E-USAGE", f"sites of different trust domains: {', '.join(sorted(domains))}", remedy="a bundle has one")
    return domains.pop()


def _merge(before: Iterable[Named], added: Iterable[Named], without: tuple[str, ...]) -> tuple[Named, ...]:
    """Return entries by name: those before, replaced or followed by those added, without those named."""
    named = {entry.name: entry for entry in before} | {entry.name: entry for entry in added}
    return tuple(entry for name, entry in named.items() if name not in without)


def _with_floors(lanes: tuple[Lane, ...], before: tuple[Lane, ...], floors: dict[LaneName, ReleaseFloor]) -> tuple[Lane, ...]:
    """Return the lanes with their floors: a lane that is given anew keeps the one it had, unless another is given for it."""
    unknown = sorted(set(floors) - {lane.name for lane in lanes})
    if unknown:
        raise CallerError("E-USAGE", f"no lane {unknown[0]} to give a floor to", remedy="name a lane of the proposal")
    kept = {lane.name: lane.release_floor for lane in before}
    found = []
    for lane in lanes:
        old = lane.release_floor if lane.release_floor != ReleaseFloor() else kept.get(lane.name, lane.release_floor)
        new = floors.get(lane.name)
        floor = old if new is None else new.model_copy(update={"cosignatures": old.cosignatures})
        found.append(lane.model_copy(update={"release_floor": floor}))
    return tuple(found)


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(piece) for piece in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    return f"{path}: {words}" if path else words
