"""Revocation at this site: its own signed set, the newest sets of its peers, and who may not come in any more.

The catalog holds a mark for each identity that was revoked or enrolled anew, and the newest set of each site. A command beside
the server writes there; the server reads it again every second, so a revocation acts at once here, and at peers when they ask.

Rules:      1. mark, log entry and new set are one transaction  2. a peer's set replaces an older one only by
            `RevocationState.accept`  3. a certificate from before the revocation, or before the last enrolment, is refused
            4. nothing is un-revoked: a new invite gives new keys, the old ones stay void
Spec:       docs/operations.md section "Revoking"; docs/protocol.md section "Revocation"
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, CapacityError, NotAuthenticated
from carnet.identifiers import SiteName, SpiffeId
from carnet.keys import SigningKey
from carnet.limits import REVOCATIONS_MAX
from carnet.revocation import REVOCATION_LIFE, KnownSet, RevocationSet, RevocationState, read_sets
from carnet.timestamps import format_time, parse_time
from carnet.trust import TrustBundle
from gateway.pki import BACKDATE
from gateway.ports import Catalog, Clock, Transaction
from gateway.revocation_marks import Mark, all_marks, identity_marks, mark_of, put_mark

_SETS = "revocation/"
_RENEW_AFTER: Final = REVOCATION_LIFE / 2
_SECOND = timedelta(seconds=1)


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
        self.state, self._marks = await self._catalog.read(lambda tx: (_stored(tx, bundle), identity_marks(tx)))

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
            self._check_signed(identity, not_before)
            return
        if mark.is_revoked:
            raise NotAuthenticated("E-REVOKED", f"{identity} was revoked at {mark.since} ({mark.reason})")
        # Certificates begin in whole seconds, so one of the same second as the enrolment counts as the new one.
        if mark.replaced is not None and not_before + BACKDATE + _SECOND <= mark.replaced:
            raise NotAuthenticated("E-REVOKED", f"{identity} was enrolled again since this certificate was issued")

    def _check_signed(self, identity: SpiffeId, not_before: datetime) -> None:
        """Refuse whom the set that this site signed names, though no mark is there: somebody took the mark out of the catalog."""
        own = self.own()
        for one in () if own is None else own.content.identities:
            if one.identity == identity and not_before + BACKDATE <= parse_time(one.since):
                raise NotAuthenticated("E-REVOKED", f"{identity} was revoked at {one.since} ({one.reason})")

    def own(self) -> KnownSet | None:
        """Return this site's own set, or None before the first."""
        return self.state.sets.get(self._site)


def revoke_identity(tx: Transaction, key: SigningKey, site: SiteName, identity: SpiffeId, reason: str) -> RevocationSet:
    """Revoke an identity of this site: mark, log entry and new signed set; return the set. Again is no error (rule 1).

    Invites that it has and did not use die with it: whoever holds one got it before.

    Raises:
        CallerError: E-USAGE if nobody of that name is enrolled or invited here. CapacityError: E-LIMIT.
    """
    invites = tx.open_invites(identity)
    if tx.identity(identity) is None and not invites:
        raise CallerError(
            "E-USAGE", f"no {identity.kind} {identity.name} is enrolled here", remedy="see who is: `carnet-gateway agent list`"
        )
    for invite in invites:
        tx.save_invite(replace(invite, used_at=tx.now))
    mark_identity(tx, identity, reason)
    return issue_set(tx, key, site)


def check_reason(text: str) -> None:
    """Return if `text` is a word that a set can carry; raise `CallerError` E-USAGE otherwise."""
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", text, re.ASCII) is None:
        raise CallerError("E-USAGE", f"not a reason: {ascii(text)[:80]}", remedy="write one word of a-z, 0-9, . _ -")


def mark_identity(tx: Transaction, identity: SpiffeId, reason: str) -> None:
    """Mark and log that the identity is revoked, unless it is already; the set is the caller's to issue.

    Raises:
        CapacityError: E-LIMIT.
    """
    known = mark_of(tx, identity)
    if known is not None and known.is_revoked:
        return
    if (known is None or known.since is None) and len(all_marks(tx).identities) >= REVOCATIONS_MAX:
        raise CapacityError("E-LIMIT", f"{REVOCATIONS_MAX} identities are revoked", limit="REVOCATIONS_MAX")
    since = parse_time(format_time(tx.now))
    if known is not None and known.since is not None:
        since = max(since, parse_time(known.since) + _SECOND)
    mark = replace(known or Mark(identity), revoked=tx.now, since=format_time(since), reason=reason)
    put_mark(tx, mark)
    fields: dict[str, JsonValue] = {"identity": identity, "reason": reason, "since": mark.since}
    tx.append(EntryType.AGENT_REVOKED if identity.kind == "agent" else EntryType.PERSON_REVOKED, fields)


def issue_set(tx: Transaction, key: SigningKey, site: SiteName) -> RevocationSet:
    """Sign and keep this site's set as the marks are now, under the next number; its time never falls."""
    former = tx.site_document(f"{_SETS}{site}")
    known = None if former is None else RevocationSet.read_unverified(parse_envelope(former))
    issued = tx.now if known is None else max(tx.now, parse_time(known.issued))
    marks = all_marks(tx)
    made = RevocationSet(
        site=site,
        number=1 if known is None else known.number + 1,
        issued=format_time(issued),
        expires=format_time(issued + REVOCATION_LIFE),
        identities=marks.identities,
        signing_keys=marks.keys,
        kem_keys=marks.kem,
    )
    tx.put_site_document(f"{_SETS}{site}", made.sign(key).encode())
    return made


def is_set_due(own: KnownSet | None, now: datetime) -> bool:
    """Tell whether the site's own set has lived half its life, or there is none."""
    return own is None or now >= parse_time(own.content.issued) + _RENEW_AFTER


def _stored(tx: Transaction, bundle: TrustBundle | None) -> RevocationState:
    """Return the sets the catalog holds that the bundle's keys bear out."""
    if bundle is None:
        return RevocationState()
    return read_sets((parse_envelope(document) for document in tx.site_documents(_SETS).values()), bundle)
