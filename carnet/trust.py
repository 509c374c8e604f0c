"""The trust bundle: which sites, lanes, people and witnesses exist, signed by a threshold of offline roots.

Agents and sites take keys and lanes from it and from nowhere else, so no gateway can substitute a key or call a sealed lane
inspected. `TrustedState` owns the order of checks by which a new bundle replaces an old one; it does no input or output.

Rules:      1. a bundle is signed by the roots before it (the first: by the pinned ones) and by its own
            2. the version only grows; one version has one content  3. the trust domain never changes
            4. an expired bundle gives nothing new: hold  5. each name, and each key of a site or person, is one party's
Spec:       docs/statements.md section "Trust bundle"; the workflow follows TUF 1.0 section 5.3
Example:    >>> home_lane(SiteName("eu")).destinations
            ('eu',)
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from carnet.encoding import canonical
from carnet.envelope import Envelope, verify
from carnet.errors import Held, IntegrityError, NotFound
from carnet.identifiers import AgentName, Digest, Jurisdiction, LaneName, SiteName, SpiffeId
from carnet.keys import KemPublicKeyField, VerifyingKey, VerifyingKeyField
from carnet.limits import DESTINATIONS_MAX, TRUST_ENTRIES_MAX
from carnet.statement import Positive, ShortText, Statement, Unique, WireModel, Word
from carnet.suites import SUITE_1
from carnet.timestamps import Timestamp, parse_time

HOME_LANE: Final = LaneName("home")
"""The lane that each site has within itself; a bundle may not define it."""
_ROOT_KEYS_MAX = 32
_SUITES_MAX = 8
_URLS_MAX = 16
_ROLES_MAX = 32
_ROUTES_MAX = 16
_PEM_CHARS_MAX = 64_000
_PEM_START = "-----BEGIN CERTIFICATE-----\n"


def _check_pem(text: str) -> str:
    if not text.startswith(_PEM_START):
        raise ValueError("not a PEM certificate")
    return text


Url = Annotated[str, StringConstraints(max_length=255, pattern=r"^https://[a-z0-9.:\[\]-]+$")]
"""A base URL without path: https, host in lower case, perhaps a port."""
Pem = Annotated[str, StringConstraints(max_length=_PEM_CHARS_MAX), AfterValidator(_check_pem)]
"""Certificates in PEM; the edge that builds a TLS context parses them."""
TrustDomain = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9.-]{0,253}[a-z0-9])?$")]
"""An organisation's trust domain, as the SPIFFE id spells it."""
NoteKeyName = Annotated[str, StringConstraints(pattern=r"^[!-*,-~]{1,255}$")]
"""A signed-note key name: printable ASCII without space or plus."""


class Roots(WireModel):
    """The offline keys that sign bundles, and how many of them must."""

    keys: Annotated[tuple[VerifyingKeyField, ...], Field(min_length=1, max_length=_ROOT_KEYS_MAX), Unique]
    threshold: Positive

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.threshold > len(self.keys):
            raise ValueError(f"a threshold of {self.threshold} cannot be met by {len(self.keys)} keys")
        return self

    @property
    def fingerprint(self) -> Digest:
        """What is pinned at enrolment: SHA-256 of the canonical JSON of sorted keys and threshold."""
        return Digest.of(canonical({"keys": sorted(key.hex for key in self.keys), "threshold": self.threshold}))


def root_fingerprint(roots: Roots) -> Digest:
    """Return the digest that people compare and configurations pin."""
    return roots.fingerprint


class Site(WireModel):
    """A site: where it is, who runs it, how to reach it, whose TLS certificates it issues, what signs for it."""

    name: SiteName
    jurisdiction: Jurisdiction
    operator: ShortText
    urls: Annotated[tuple[Url, ...], Field(min_length=1, max_length=_URLS_MAX), Unique]
    tls_ca: Pem
    signing_key: VerifyingKeyField


class SiteCard(Site):
    """What a new site hands to the roots, who put it into the next bundle; unsigned, so they compare it by voice or in person."""

    v: Literal[1] = 1
    trust_domain: TrustDomain

    def site(self) -> Site:
        """Return the entry for the bundle."""
        return Site.model_validate({name: getattr(self, name) for name in Site.model_fields})


class LaneMode(StrEnum):
    """Who may open the content on the way: the origin site too, or only agent and destination."""

    INSPECTED = "inspected"
    SEALED = "sealed"


class ApprovalFloor(WireModel):
    """So many distinct people of a role must approve."""

    role: Word
    count: Positive


class ReleaseFloor(WireModel):
    """The least that must be there before a key leaves, whatever a site's policy says."""

    approvals: Annotated[tuple[ApprovalFloor, ...], Field(max_length=_ROLES_MAX)] = ()
    cosignatures: Annotated[int, Field(ge=0, le=_ROLES_MAX, strict=True)] = 0


class Carriage(StrEnum):
    """How relays carry: pass each segment on while others still come, or keep all of a slip until it is whole."""

    TRANSIT = "transit"
    STORE = "store"


class Route(WireModel):
    """One way of a lane: the relays in the order they are passed, none for the direct way."""

    relays: Annotated[tuple[SiteName, ...], Field(max_length=DESTINATIONS_MAX), Unique] = ()
    carriage: Carriage = Carriage.TRANSIT


class Lane(WireModel):
    """A directed way from `origin` to `destinations`, by the first of `routes` that can be used."""

    name: LaneName
    origin: SiteName
    destinations: Annotated[tuple[SiteName, ...], Field(min_length=1, max_length=DESTINATIONS_MAX), Unique]
    routes: Annotated[tuple[Route, ...], Field(min_length=1, max_length=_ROUTES_MAX), Unique] = (Route(),)
    mode: LaneMode
    suites: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=_SUITES_MAX), Unique]
    release_floor: ReleaseFloor = ReleaseFloor()

    @property
    def relays(self) -> tuple[SiteName, ...]:
        """Every relay of any route, once."""
        return tuple(dict.fromkeys(relay for route in self.routes for relay in route.relays))

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """Everyone on the lane: origin, relays, destinations."""
        return (self.origin, *self.relays, *self.destinations)


class Person(WireModel):
    """A person with their roles and their own signing keys."""

    name: AgentName
    roles: Annotated[tuple[Word, ...], Field(max_length=_ROLES_MAX), Unique] = ()
    keys: Annotated[tuple[VerifyingKeyField, ...], Field(min_length=1, max_length=_ROLES_MAX), Unique]


class Witness(WireModel):
    """A party that cosigns checkpoints, under a signed-note key name."""

    name: NoteKeyName
    key: VerifyingKeyField


class TrustBundle(Statement):
    """Who and what is trusted, until `expires`. Found true only by `TrustedState.accept`."""

    payload_type: ClassVar[str] = "application/vnd.carnet.trust-bundle.v1+json"

    version: Positive
    issued: Timestamp
    expires: Timestamp
    trust_domain: TrustDomain
    roots: Roots
    sites: Annotated[tuple[Site, ...], Field(min_length=1, max_length=TRUST_ENTRIES_MAX)]
    lanes: Annotated[tuple[Lane, ...], Field(max_length=TRUST_ENTRIES_MAX)] = ()
    people: Annotated[tuple[Person, ...], Field(max_length=TRUST_ENTRIES_MAX)] = ()
    policy_owners: Annotated[tuple[AgentName, ...], Field(max_length=_ROLES_MAX), Unique] = ()
    witnesses: Annotated[tuple[Witness, ...], Field(max_length=_ROLES_MAX)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.expires <= self.issued:
            raise ValueError("expires is not after issued")
        _once("site", (site.name for site in self.sites))
        _once("lane", (lane.name for lane in self.lanes))
        _once("person", (person.name for person in self.people))
        _once("witness", (witness.name for witness in self.witnesses))
        # One key, one party: else one site signs for another, or one person approves as two.
        _once("key", (site.signing_key for site in self.sites), (key for person in self.people for key in person.keys))
        _known("policy owner", self.policy_owners, {person.name for person in self.people})
        self._check_lanes()
        return self

    def _check_lanes(self) -> None:
        names = {site.name for site in self.sites}
        for lane in self.lanes:
            if lane.name == HOME_LANE:
                raise ValueError("the lane `home` is in every site already")
            _known(f"site on lane {lane.name}", lane.sites, names)
            _once(f"site on lane {lane.name}", lane.sites)

    def site(self, name: SiteName) -> Site:
        """Return the site of that name; raise `NotFound` E-SITE-UNKNOWN if there is none."""
        for site in self.sites:
            if site.name == name:
                return site
        raise NotFound("E-SITE-UNKNOWN", f"no site {name} in trust bundle {self.version}")

    def lane(self, name: LaneName, at: SiteName | None = None) -> Lane:
        """Return the lane of that name, `home` being the one within `at`; raise `NotFound` E-LANE-UNKNOWN if there is none."""
        if name == HOME_LANE and at is not None:
            return home_lane(self.site(at).name)
        for lane in self.lanes:
            if lane.name == name:
                return lane
        raise NotFound("E-LANE-UNKNOWN", f"no lane {name} in trust bundle {self.version}")

    def lanes_from(self, site: SiteName) -> tuple[Lane, ...]:
        """Return the lanes that start at `site`, its home lane first."""
        return (home_lane(site), *(lane for lane in self.lanes if lane.origin == site))

    def people_with(self, role: str) -> tuple[Person, ...]:
        """Return everyone who holds `role`."""
        return tuple(person for person in self.people if role in person.roles)


def home_lane(site: SiteName) -> Lane:
    """Return the lane from `site` to itself: inspected, no relay, no floor."""
    return Lane(name=HOME_LANE, origin=site, destinations=(site,), mode=LaneMode.INSPECTED, suites=(SUITE_1,))


@dataclass(frozen=True, slots=True)
class TrustedState:
    """What one party trusts now: a bundle, or before the first one only the fingerprint of its roots.

    Example:
        state = TrustedState(pinned=fingerprint)
        state = state.accept(first, now)      # again for each newer one, in order
        bundle = state.fresh(now)             # raises when it is too old to act on
    """

    pinned: Digest
    bundle: TrustBundle | None = None

    def accept(self, envelope: Envelope, now: datetime) -> "TrustedState":
        """Return the state after `envelope`, or this one if it holds the bundle already; on an error nothing changes.

        Steps: (1) type, form and cross-references; (2) signed by a threshold of the roots trusted now; the first time the
        bundle's own roots must be the pinned ones; (3) signed by a threshold of its own roots; (4) the trust domain is the
        same; (5) the version is higher, or it is the very bundle we have; (6) it has not expired. It may have been issued in
        our future: a slow clock here is not the roots' fault, and (6) is not weakened by it.

        Raises:
            PeerError: E-FORMAT for step 1.
            IntegrityError: E-SIGNATURE for signatures, E-TRUST for pin, domain and version.
            Held: E-TRUST-EXPIRED for step 6.
        """
        candidate = TrustBundle.read_unverified(envelope)  # (1)
        if self.bundle is None:  # (2)
            if candidate.roots.fingerprint != self.pinned:
                raise IntegrityError("E-TRUST", f"roots {candidate.roots.fingerprint} are not the pinned {self.pinned}")
        else:
            _verify_roots(envelope, self.bundle.roots)
        _verify_roots(envelope, candidate.roots)  # (3)
        if self.bundle is not None:
            if candidate.trust_domain != self.bundle.trust_domain:  # (4)
                raise IntegrityError("E-TRUST", f"trust domain {candidate.trust_domain}, expected {self.bundle.trust_domain}")
            if candidate.digest == self.bundle.digest:  # (5)
                return self
            if candidate.version <= self.bundle.version:
                raise IntegrityError("E-TRUST", f"trust bundle {candidate.version} is not newer than {self.bundle.version}")
        _check_not_expired(candidate, now)  # (6)
        return TrustedState(self.pinned, candidate)

    @property
    def current(self) -> TrustBundle:
        """The bundle, fresh or not; raises `IntegrityError` E-TRUST if none was ever accepted."""
        if self.bundle is None:
            raise IntegrityError("E-TRUST", "no trust bundle was accepted yet")
        return self.bundle

    def check_fresh(self, now: datetime) -> None:
        """Raise `Held` E-TRUST-EXPIRED if the bundle's time is over at `now`, `IntegrityError` E-TRUST if there is none."""
        _check_not_expired(self.current, now)

    def fresh(self, now: datetime) -> TrustBundle:
        """Return the bundle to act on at `now`; raises as `check_fresh`."""
        self.check_fresh(now)
        return self.current


class _SiteStatement(Statement):
    """What a site states about keys, for a time."""

    not_before: Timestamp
    not_after: Timestamp

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        if self.not_after <= self.not_before:
            raise ValueError("not_after is not after not_before")
        return self

    def is_valid_at(self, moment: datetime) -> bool:
        """Return whether `moment` is within not_before (included) and not_after (excluded)."""
        return parse_time(self.not_before) <= moment < parse_time(self.not_after)


class KemStatement(_SiteStatement):
    """A site's word that KEM key `number` is its own; numbers only grow."""

    payload_type: ClassVar[str] = "application/vnd.carnet.kem-key.v1+json"

    site: SiteName
    suite: Positive
    number: Positive
    key: KemPublicKeyField


class AgentStatement(_SiteStatement):
    """A site's word about one of its agents: identity, keys, owners. It travels with the agent's waybills."""

    payload_type: ClassVar[str] = "application/vnd.carnet.agent.v1+json"

    identity: SpiffeId
    site: SiteName
    signing_key: VerifyingKeyField
    kem_key: KemPublicKeyField
    owners: Annotated[tuple[ShortText, ...], Field(max_length=_ROLES_MAX), Unique] = ()

    @model_validator(mode="after")
    def _check_site(self) -> Self:
        if self.identity.site != self.site or self.identity.kind != "agent":
            raise ValueError("a site states agents of its own only")
        return self


def open_kem_statement(envelope: Envelope, bundle: TrustBundle) -> KemStatement:
    """Return the KEM statement if the site it names, as `bundle` knows it, signed it; its validity is the caller's to judge.

    Raises:
        NotFound: E-SITE-UNKNOWN. IntegrityError: E-SIGNATURE. PeerError: E-FORMAT.
    """
    site = bundle.site(KemStatement.read_unverified(envelope).site)
    return KemStatement.open(envelope, [site.signing_key])


def open_agent_statement(envelope: Envelope, bundle: TrustBundle) -> AgentStatement:
    """Return the agent statement if the agent's site, as `bundle` knows it, signed it, and the trust domain is the bundle's.

    Raises:
        NotFound: E-SITE-UNKNOWN. IntegrityError: E-SIGNATURE, or E-TRUST for another domain. PeerError: E-FORMAT.
    """
    site = bundle.site(AgentStatement.read_unverified(envelope).site)
    statement = AgentStatement.open(envelope, [site.signing_key])
    if statement.identity.trust_domain != bundle.trust_domain:
        raise IntegrityError("E-TRUST", f"{statement.identity} is not of trust domain {bundle.trust_domain}")
    return statement


def newest_kem(statements: Iterable[KemStatement], site: SiteName, suite: int, now: datetime) -> KemStatement | None:
    """Return the statement of the highest number of `site` for `suite` that is valid at `now`, or None."""
    usable = (one for one in statements if (one.site, one.suite) == (site, suite) and one.is_valid_at(now))
    return max(usable, key=lambda one: one.number, default=None)


def _verify_roots(envelope: Envelope, roots: Roots) -> None:
    verify(envelope, payload_type=TrustBundle.payload_type, keys=roots.keys, threshold=roots.threshold)


def _check_not_expired(bundle: TrustBundle, now: datetime) -> None:
    if now >= parse_time(bundle.expires):
        raise Held("E-TRUST-EXPIRED", f"trust bundle {bundle.version} expired at {bundle.expires}")


def _once(what: str, *groups: Iterable[str | VerifyingKey]) -> None:
    seen: set[str | VerifyingKey] = set()
    for value in (value for group in groups for value in group):
        if value in seen:
            raise ValueError(f"{what} {value!r} appears twice")
        seen.add(value)


def _known(what: str, wanted: Iterable[str], known: set[AgentName] | set[SiteName]) -> None:
    for name in wanted:
        if name not in known:
            raise ValueError(f"{what}: {name} is not in the bundle")
