"""The revocation set: who and what a site trusts no more, signed online, numbered, short-lived; it can only take away.

A trust bundle is signed by offline roots and lives long; a stolen key must lose its power within seconds. So each site signs
what it takes back by itself, and others act on the newest set they have seen. Losing one means holding, never allowing.

Rules:      1. a set is signed by its site's key in the trust bundle, and takes back that site's own identities and KEM keys,
            and signing keys of its agents and of people; a person's key is void wherever any site took it back
            2. the number never falls; one number has one content  3. a set lives an hour at most; an expired one holds new work,
            and what it revoked stays revoked  4. an agent statement is revoked if it begins before the identity's `since`
Spec:       docs/statements.md section "Revocation set"; SECURITY 7.3
Example:    >>> RevocationState().newest(SiteName("eu")) is None
            True
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, StringConstraints, model_validator

from carnet.envelope import Envelope
from carnet.errors import CarnetError, Held, IntegrityError, NotAuthorised
from carnet.identifiers import SiteName, SpiffeId
from carnet.limits import REVOCATIONS_MAX
from carnet.statement import Positive, Statement, WireModel, Word
from carnet.timestamps import Timestamp, parse_time
from carnet.trust import AgentStatement, KemStatement, TrustBundle

REVOCATION_LIFE: Final = timedelta(hours=1)
"""The longest life of a set."""
CLOCK_AHEAD: Final = timedelta(minutes=5)
"""How far in our future another's clock may be."""
KeyId = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
"""A key id as envelopes carry it."""


class RevokedIdentity(WireModel):
    """An agent or a person: every statement about it that begins before `since` is void."""

    identity: SpiffeId
    since: Timestamp
    reason: Word


class RevokedKey(WireModel):
    """A signing key, whatever identity it served; or an agent's KEM key, by its digest."""

    keyid: KeyId
    since: Timestamp
    reason: Word


class RevokedKem(WireModel):
    """A KEM key of the site: nothing is sealed to it any more."""

    number: Positive
    since: Timestamp
    reason: Word


class RevocationSet(Statement):
    """All that `site` takes back. Found true only by `RevocationState.accept`."""

    payload_type: ClassVar[str] = "application/vnd.carnet.revocations.v1+json"

    site: SiteName
    number: Positive
    issued: Timestamp
    expires: Timestamp
    identities: Annotated[tuple[RevokedIdentity, ...], Field(max_length=REVOCATIONS_MAX)] = ()
    signing_keys: Annotated[tuple[RevokedKey, ...], Field(max_length=REVOCATIONS_MAX)] = ()
    kem_keys: Annotated[tuple[RevokedKem, ...], Field(max_length=REVOCATIONS_MAX)] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        life = parse_time(self.expires) - parse_time(self.issued)
        if not timedelta(0) < life <= REVOCATION_LIFE:
            raise ValueError(f"a revocation set lives at most {REVOCATION_LIFE}, this one {life}")
        if any(one.identity.site != self.site or one.identity.kind == "gateway" for one in self.identities):
            raise ValueError("a site revokes agents and persons of its own only")
        names: list[list[SpiffeId] | list[str] | list[int]] = [
            [one.identity for one in self.identities],
            [one.keyid for one in self.signing_keys],
            [one.number for one in self.kem_keys],
        ]
        if any(len(set(group)) != len(group) for group in names):
            raise ValueError("something is revoked twice")
        return self

    def is_expired_at(self, moment: datetime) -> bool:
        """Return whether the set's time is over."""
        return moment >= parse_time(self.expires)

    def reason_against(self, statement: AgentStatement) -> str | None:
        """Return why this set voids the agent statement, as one word, or None (rule 4)."""
        for one in self.identities:
            if one.identity == statement.identity and parse_time(statement.not_before) < parse_time(one.since):
                return one.reason
        keys = {statement.signing_key.keyid, statement.kem_key.digest}
        return next((one.reason for one in self.signing_keys if one.keyid in keys), None)


@dataclass(frozen=True, slots=True)
class KnownSet:
    """A set and the envelope it came in, which is passed on as it is."""

    envelope: Envelope
    content: RevocationSet


@dataclass(frozen=True, slots=True)
class RevocationState:
    """The newest set of each site; `accept` returns a new state."""

    sets: Mapping[SiteName, KnownSet] = field(default_factory=dict)

    def accept(self, envelope: Envelope, bundle: TrustBundle, now: datetime) -> "RevocationState":
        """Return the state after `envelope`, or this one if it holds the set already; on an error nothing changes.

        Steps: (1) form; (2) signed by the site it names, as `bundle` knows it; (3) the number is higher, or it is the very set
        we have; (4) it has not expired, and is not from our future.

        Raises:
            PeerError: E-FORMAT. NotFound: E-SITE-UNKNOWN. IntegrityError: E-SIGNATURE; E-TRUST for step 3.
            Held: E-REVOCATION-EXPIRED, E-CLOCK for step 4.
        """
        site = bundle.site(RevocationSet.read_unverified(envelope).site)  # (1)
        content = RevocationSet.open(envelope, [site.signing_key])  # (2)
        known = self.newest(site.name)
        if known is not None:  # (3)
            if content.payload() == known.payload():
                return self
            if content.number <= known.number:
                said = f"revocation set {content.number} of {site.name}"
                raise IntegrityError("E-TRUST", f"{said} is not newer than {known.number}, which is known")
        if content.is_expired_at(now):  # (4)
            raise expired(content)
        if parse_time(content.issued) > now + CLOCK_AHEAD:
            raise Held("E-CLOCK", f"revocation set {content.number} of {site.name} is of {content.issued}, here it is {now}")
        return RevocationState({**self.sets, site.name: KnownSet(envelope, content)})

    def newest(self, site: SiteName) -> RevocationSet | None:
        """Return the newest set of `site`, fresh or not, or None."""
        known = self.sets.get(site)
        return None if known is None else known.content

    def require_fresh(self, sites: Iterable[SiteName], now: datetime) -> None:
        """Return if the set of each of `sites` is known and has not expired; raise `Held` E-REVOCATION-EXPIRED otherwise."""
        for site in sites:
            newest = self.newest(site)
            if newest is None:
                raise Held("E-REVOCATION-EXPIRED", f"no revocation set of site {site} is known here")
            if newest.is_expired_at(now):
                raise expired(newest)

    def reason_against(self, statement: AgentStatement) -> str | None:
        """Return why the agent's site took this statement back, or None."""
        newest = self.newest(statement.site)
        return None if newest is None else newest.reason_against(statement)

    def require_agent(self, statement: AgentStatement) -> None:
        """Return if the agent statement was not taken back; raise `NotAuthorised` E-REVOKED otherwise."""
        reason = self.reason_against(statement)
        if reason is not None:
            raise NotAuthorised("E-REVOKED", f"{statement.identity} is revoked by its site ({reason})")

    def revoked_keys(self, bundle: TrustBundle) -> frozenset[str]:
        """Return the key ids under which no person signs any more: keys that a site took back, and all keys of its persons.

        When a key was used is no question here: who has a stolen one dates what it signs as they like. A person whom the
        roots name again in a later bundle is trusted by the keys that were not taken back.
        """
        sets = [known.content for known in self.sets.values()]
        keys = {one.keyid for content in sets for one in content.signing_keys}
        issued = parse_time(bundle.issued)
        people = (one for content in sets for one in content.identities if one.identity.kind == "person")
        named = {one.identity.name for one in people if parse_time(one.since) >= issued}
        keys.update(key.keyid for person in bundle.people if person.name in named for key in person.keys)
        return frozenset(keys)

    def is_kem_revoked(self, statement: KemStatement) -> bool:
        """Tell whether the site took this KEM key back."""
        return self.is_kem_number_revoked(statement.site, statement.number)

    def is_kem_number_revoked(self, site: SiteName, number: int) -> bool:
        """Tell whether `site` took its KEM key `number` back."""
        newest = self.newest(site)
        return newest is not None and any(one.number == number for one in newest.kem_keys)


def read_sets(envelopes: Iterable[Envelope], bundle: TrustBundle) -> RevocationState:
    """Return the newest of each site's sets that its key in `bundle` signed, expired or not; what does not verify is left out.

    For sets that are kept, or passed on by a party that could hold back as well: an expired one still says who is revoked.
    """
    sets: dict[SiteName, KnownSet] = {}
    for envelope in envelopes:
        try:
            site = bundle.site(RevocationSet.read_unverified(envelope).site)
            content = RevocationSet.open(envelope, [site.signing_key])
        except CarnetError:
            continue
        known = sets.get(site.name)
        if known is None or known.content.number < content.number:
            sets[site.name] = KnownSet(envelope, content)
    return RevocationState(sets)


def expired(content: RevocationSet) -> Held:
    """Return the error for a set whose time is over."""
    return Held("E-REVOCATION-EXPIRED", f"revocation set {content.number} of {content.site} expired at {content.expires}")
