"""Revocation at this site: its own signed set, the newest sets of its peers, and who may not come in any more.

The catalog holds a mark for each identity that was revoked or enrolled anew, and the newest set of each site. A command beside
the server writes there; the server reads it again every second, so a revocation acts at once here, and at peers when they ask.

Rules:      1. mark, log entry and new set are one transaction  2. a peer's set replaces an older one only by
            `RevocationState.accept`  3. a certificate from before the revocation, or before the last enrolment, is refused
            4. nothing is un-revoked: a new invite gives new keys, the old ones stay void
Spec:       docs/operations.md section "Revoking an agent"; docs/protocol.md section "Revocation"
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Self

from carnet.encoding import JsonValue, canonical, parse_json
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, CapacityError, NotAuthenticated
from carnet.identifiers import SiteName, SpiffeId
from carnet.keys import SigningKey
from carnet.limits import KIB, REVOCATIONS_MAX
from carnet.revocation import REVOCATION_LIFE, KnownSet, RevocationSet, RevocationState, RevokedIdentity, read_sets
from carnet.timestamps import format_time, parse_time
from carnet.trust import TrustBundle
from gateway.pki import BACKDATE
from gateway.ports import Catalog, Clock, Transaction

_SETS = "revocation/"
_MARKS = "revoked/"
_RENEW_AFTER: Final = REVOCATION_LIFE / 2
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Mark:
    """What is remembered about an identity beside its record: when it was revoked and why, when it was enrolled anew."""

    identity: SpiffeId
    revoked: datetime | None = None
    since: str | None = None
    """The revocation's time as the set says it: whole seconds, later at each revocation."""
    reason: str = "unspecified"
    replaced: datetime | None = None

    @property
    def is_revoked(self) -> bool:
        """Whether the identity is revoked and was not enrolled again since."""
        return self.revoked is not None and (self.replaced is None or self.replaced < self.revoked)

    def encode(self) -> bytes:
        """Return the document."""
        return canonical(
            {
                "identity": self.identity,
                "revoked": None if self.revoked is None else self.revoked.isoformat(),
                "since": self.since,
                "reason": self.reason,
                "replaced": None if self.replaced is None else self.replaced.isoformat(),
            }
        )

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """Return the mark in a document of our own catalog."""
        value = parse_json(document, bytes_max=4 * KIB)
        assert isinstance(value, Mapping)  # noqa: S101 - `encode` wrote it
        revoked, since, replaced = (value[name] for name in ("revoked", "since", "replaced"))
        return cls(
            identity=SpiffeId(str(value["identity"])),
            revoked=None if revoked is None else datetime.fromisoformat(str(revoked)),
            since=None if since is None else str(since),
            reason=str(value["reason"]),
            replaced=None if replaced is None else datetime.fromisoformat(str(replaced)),
        )


class Revocations:
    """What the server knows in memory; `refresh` reads it from the catalog, `learn` takes a peer's set."""

    def __init__(self, catalog: Catalog, clock: Clock, site: SiteName) -> None:
        """Know nothing until `refresh`."""
        self._catalog = catalog
        self._clock = clock
        self._site = site
        self._marks: Mapping[SpiffeId, Mark] = {}
        self.state = RevocationState()
        """The newest set of each site whose signature the trust bundle bears out; replaced whole."""

    async def refresh(self, bundle: TrustBundle | None) -> None:
        """Read marks and sets again; sets of sites that left the bundle fall away."""
        self.state, self._marks = await self._catalog.read(lambda tx: (_stored(tx, bundle), _marks(tx)))

    async def learn(self, document: Mapping[str, JsonValue] | None, bundle: TrustBundle) -> bool:
        """Keep a newer set; tell whether it was new.

        Raises:
            PeerError, NotFound, IntegrityError, Held: as `RevocationState.accept`; nothing changed then.
        """
        if document is None:
            return False
        envelope = parse_envelope(document)
        now = self._clock.now()
        claimed = RevocationSet.read_unverified(envelope).site
        if claimed == self._site or self.state.accept(envelope, bundle, now) is self.state:
            return False

        def change(tx: Transaction) -> None:
            stored = _stored(tx, bundle)
            if stored.accept(envelope, bundle, now) is not stored:
                tx.put_site_document(f"{_SETS}{claimed}", envelope.encode())

        await self._catalog.write(change)
        await self.refresh(bundle)
        return True

    def check_leaf(self, identity: SpiffeId, not_before: datetime) -> None:
        """Return if a certificate of `identity` that begins at `not_before` may still be used here.

        Raises:
            NotAuthenticated: E-REVOKED.
        """
        mark = self._marks.get(identity)
        if mark is None:
            return
        if mark.is_revoked:
            raise NotAuthenticated("E-REVOKED", f"{identity} was revoked at {mark.since} ({mark.reason})")
        # Certificates begin in whole seconds, so one of the same second as the enrolment counts as the new one.
        if mark.replaced is not None and not_before + BACKDATE + _SECOND <= mark.replaced:
            raise NotAuthenticated("E-REVOKED", f"{identity} was enrolled again since this certificate was issued")

    def own(self) -> KnownSet | None:
        """Return this site's own set, or None before the first."""
        return self.state.sets.get(self._site)


def mark_of(tx: Transaction, identity: SpiffeId) -> Mark | None:
    """Return what is remembered about the identity, or None."""
    document = tx.site_document(f"{_MARKS}{identity}")
    return None if document is None else Mark.parse(document)


def mark_replaced(tx: Transaction, identity: SpiffeId) -> None:
    """Note that the identity has new keys from now on: certificates from before are refused."""
    mark = mark_of(tx, identity) or Mark(identity)
    tx.put_site_document(f"{_MARKS}{identity}", replace(mark, replaced=tx.now).encode())


def statement_floor(tx: Transaction, identity: SpiffeId) -> datetime | None:
    """Return the time before which no new statement about the identity may begin, for its site's set would void it."""
    mark = mark_of(tx, identity)
    return None if mark is None or mark.since is None else parse_time(mark.since)


def revoke_identity(tx: Transaction, key: SigningKey, site: SiteName, identity: SpiffeId, reason: str) -> RevocationSet:
    """Revoke an identity of this site: mark, log entry and new signed set; return the set. Again is no error (rule 1).

    Raises:
        CallerError: E-USAGE if nobody of that name is enrolled here. CapacityError: E-LIMIT.
    """
    if tx.identity(identity) is None:
        raise CallerError(
            "E-USAGE", f"no {identity.kind} {identity.name} is enrolled here", remedy="see who is: `carnet-gateway agent list`"
        )
    known = mark_of(tx, identity)
    if known is not None and known.is_revoked:
        return issue_set(tx, key, site)
    if known is None and sum(mark.since is not None for mark in _marks(tx).values()) >= REVOCATIONS_MAX:
        raise CapacityError("E-LIMIT", f"{REVOCATIONS_MAX} identities are revoked", limit="REVOCATIONS_MAX")
    since = parse_time(format_time(tx.now))
    if known is not None and known.since is not None:
        since = max(since, parse_time(known.since) + _SECOND)
    mark = replace(known or Mark(identity), revoked=tx.now, since=format_time(since), reason=reason)
    tx.put_site_document(f"{_MARKS}{identity}", mark.encode())
    issued = issue_set(tx, key, site)
    fields: dict[str, JsonValue] = {"identity": identity, "reason": reason, "since": mark.since, "set": issued.number}
    tx.append(EntryType.AGENT_REVOKED, fields)
    return issued


def issue_set(tx: Transaction, key: SigningKey, site: SiteName) -> RevocationSet:
    """Sign and keep this site's set as the marks are now, under the next number; its time never falls."""
    former = tx.site_document(f"{_SETS}{site}")
    known = None if former is None else RevocationSet.read_unverified(parse_envelope(former))
    issued = tx.now if known is None else max(tx.now, parse_time(known.issued))
    identities = tuple(
        RevokedIdentity(identity=mark.identity, since=mark.since, reason=mark.reason)
        for mark in _marks(tx).values()
        if mark.since is not None
    )
    made = RevocationSet(
        site=site,
        number=1 if known is None else known.number + 1,
        issued=format_time(issued),
        expires=format_time(issued + REVOCATION_LIFE),
        identities=identities,
    )
    tx.put_site_document(f"{_SETS}{site}", made.sign(key).encode())
    return made


def is_set_due(own: KnownSet | None, now: datetime) -> bool:
    """Tell whether the site's own set has lived half its life, or there is none."""
    return own is None or now >= parse_time(own.content.issued) + _RENEW_AFTER


def _marks(tx: Transaction) -> dict[SpiffeId, Mark]:
    marks = (Mark.parse(document) for document in tx.site_documents(_MARKS).values())
    return {mark.identity: mark for mark in marks}


def _stored(tx: Transaction, bundle: TrustBundle | None) -> RevocationState:
    """Return the sets the catalog holds that the bundle's keys bear out."""
    if bundle is None:
        return RevocationState()
    return read_sets((parse_envelope(document) for document in tx.site_documents(_SETS).values()), bundle)
