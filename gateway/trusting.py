"""What the site trusts now: the bundle it imported, the KEM keys its peers state, the newest heads of their logs.

All of it is signed, so it is kept as it came and passed on as it is. The cache is of the catalog's site documents; another
process may import, so `refresh` is called at intervals and by SIGHUP.

Rules:      1. a bundle takes effect only after `TrustedState.accept` and with its log entry, in one transaction
            2. the first import pins the roots' fingerprint  3. a peer's KEM statement counts under the bundle's key of that site
            4. what is trusted is never taken from the peer that benefits
Spec:       docs/statements.md section "Trust bundle"; docs/protocol.md section "GET /v1/trust"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from carnet.checkpoint import Checkpoint, log_origin, open_checkpoint
from carnet.encoding import JsonValue
from carnet.entries import EntryType, parse_entry
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CarnetError, Held, IntegrityError, NotFound
from carnet.identifiers import Digest, SiteName
from carnet.limits import TRUST_BUNDLE_BYTES_MAX
from carnet.messages import RevocationResponse, TrustResponse
from carnet.revocation import CLOCK_AHEAD
from carnet.suites import SUITE_1
from carnet.timestamps import format_time, parse_time
from carnet.trust import KemStatement, TrustBundle, TrustedState, newest_kem, open_kem_statement
from gateway.ports import Catalog, Clock, Log, Transaction
from gateway.revoking import Revocations
from gateway.telemetry import events
from gateway.telemetry.logs import get_logger
from gateway.time_floor import TimeFloor

BUNDLE = "trust/bundle"
_FLOOR = "time/floor"
_FLOOR_KEPT_EVERY = timedelta(minutes=1)
PINNED = "trust/root-fingerprint"
"""Site document: the fingerprint of the first bundle's roots."""


@dataclass(frozen=True)
class _Known:
    """One consistent reading of the catalog."""

    state: TrustedState | None = None
    bundle: Envelope | None = None
    kem: Mapping[str, tuple[Envelope, KemStatement]] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)


class Trust:
    """Holds the trusted state; every method but `state` and the lookups on it goes through the catalog."""

    def __init__(self, catalog: Catalog, log: Log | None, clock: Clock, site: SiteName) -> None:
        """Know nothing until `refresh`. Without a `log` (a command beside the server) no own checkpoint is answered."""
        self._catalog = catalog
        self._log = log
        self._clock = clock
        self._site = site
        self._known = _Known()  # replaced whole, on the event loop only
        self.revocations = Revocations(catalog, clock, site)
        """Who is revoked, here and at the peers."""
        self.floor = TimeFloor()
        """The latest time there is proof of."""

    async def refresh(self) -> None:
        """Read bundle, KEM statements and checkpoints again; statements of sites that left the bundle fall away."""
        self._known = await self._catalog.read(_read)
        await self.refresh_revocations()

    async def refresh_revocations(self) -> None:
        """Read again who is revoked, and how late it is at least: the cheap part, done every second."""
        await self.revocations.refresh(self.current())
        last, kept = await self._catalog.read(lambda tx: (tx.last_entry(), tx.site_document(_FLOOR)))
        if last is not None:
            self.floor.raise_to(parse_time(parse_entry(last).at))
        if kept is not None:
            self.floor.raise_to(parse_time(kept.decode("ascii")))
        for site, known in self.revocations.state.sets.items():
            issued = parse_time(known.content.issued)
            # A peer's clock may be that far ahead; as proof it must not stop a site whose clock is right.
            self.floor.raise_to(issued if site == self._site else issued - CLOCK_AHEAD)

    async def keep_floor(self) -> None:
        """Keep the floor in the catalog once it rose by a minute, so that a restart under a wrong clock knows it."""
        floor = self.floor.moment
        kept = await self._catalog.read(lambda tx: tx.site_document(_FLOOR))
        if floor is None or (kept is not None and floor < parse_time(kept.decode("ascii")) + _FLOOR_KEPT_EVERY):
            return
        text = format_time(floor).encode("ascii")
        await self._catalog.write(lambda tx: tx.put_site_document(_FLOOR, text))

    def require_clock(self) -> datetime:
        """Return the time to judge at, for what this site does by itself; raise `Held` E-CLOCK if its clock cannot be right."""
        return self.floor.require(self._clock.now(), with_peers=True)

    def ground(self, *sites: SiteName) -> TrustBundle:
        """Return the bundle to decide and act on now, together with `sites`, this one left aside.

        Steps: (1) the clock can be right; (2) the bundle is fresh, at the later of clock and floor; (3) so is the revocation set
        of each of `sites`.

        Raises:
            Held: E-CLOCK, E-TRUST-EXPIRED, E-REVOCATION-EXPIRED. IntegrityError: E-TRUST before the first import.
        """
        others = [site for site in sites if site != self._site]
        now = self.floor.require(self._clock.now(), with_peers=bool(others))
        bundle = self.state().fresh(now)
        self.revocations.state.require_fresh(others, now)
        return bundle

    def ground_for_pull(self, origin: SiteName, grace: timedelta) -> tuple[TrustBundle, str | None]:
        """Return the bundle to give out what came from `origin` on, and what had expired already, if it did, by at most `grace`.

        What is here was checked while everything was fresh; so that a site whose peers or roots are away goes on for a while.

        Raises:
            Held: E-CLOCK; E-TRUST-EXPIRED, E-REVOCATION-EXPIRED beyond `grace`. IntegrityError: E-TRUST before the first import.
        """
        origins = [origin] if origin != self._site else []
        now = self.floor.require(self._clock.now(), with_peers=False)
        bundle = self.state().fresh(now - grace)
        self.revocations.state.require_fresh(origins, now - grace)
        try:
            self.state().check_fresh(now)
            self.revocations.state.require_fresh(origins, now)
        except Held as error:
            return bundle, error.problem
        return bundle, None

    def state(self) -> TrustedState:
        """Return the trusted state; raise `IntegrityError` E-TRUST before the first import."""
        if self._known.state is None:
            raise IntegrityError(
                "E-TRUST", "this site has no trust bundle yet", remedy="import one with `carnet-gateway trust import`"
            )
        return self._known.state

    def bundle_envelope(self) -> Envelope:
        """Return the signed bundle as it was imported; raise `IntegrityError` E-TRUST before the first import."""
        self.state()
        assert self._known.bundle is not None  # noqa: S101 - state and bundle are set together
        return self._known.bundle

    def kem(self, site: SiteName, now: datetime) -> KemStatement:
        """Return the newest valid KEM statement of `site`; raise `NotFound` E-SITE-UNKNOWN if none is known."""
        found = self.newest_kem(site, now)
        if found is None:
            remedy = "try again once its gateway was reached"
            raise NotFound("E-SITE-UNKNOWN", f"no valid KEM statement of site {site} is known here", remedy=remedy)
        return found

    def newest_kem(self, site: SiteName, now: datetime) -> KemStatement | None:
        """Return the newest KEM statement of `site` that is valid at `now`, or None."""
        revoked = self.revocations.state.is_kem_revoked
        usable = (statement for _, statement in self._known.kem.values() if not revoked(statement))
        return newest_kem(usable, site, SUITE_1, now)

    def is_kem_usable(self, site: SiteName, number: int, now: datetime) -> bool:
        """Tell whether KEM key `number` of `site` is stated, valid at `now`, and not revoked."""
        known = self._known.kem.get(f"kem/{site}/{number}")
        return known is not None and known[1].is_valid_at(now) and not self.is_kem_revoked(site, number)

    def is_kem_revoked(self, site: SiteName, number: int) -> bool:
        """Tell whether `site` took its KEM key `number` back."""
        return self.revocations.state.is_kem_number_revoked(site, number)

    def current(self) -> TrustBundle | None:
        """Return the bundle, fresh or not, or None before the first import."""
        return self._known.state.bundle if self._known.state else None

    async def response(self) -> TrustResponse:
        """Return all that is signed and known here; raise `IntegrityError` E-TRUST before the first import."""
        checkpoints, proved = await self._catalog.read(lambda tx: (_newest_heads(tx), _heads(tx, "head/")))
        if self._log is not None:
            checkpoints[self._site] = self._log.checkpoint()[1]
        return TrustResponse(
            site=self._site,
            bundle=self.bundle_envelope().to_json(),
            kem_statements=tuple(envelope.to_json() for envelope, _ in self._known.kem.values()),
            checkpoints=checkpoints,
            proved=proved,
            revocations=tuple(known.envelope.to_json() for known in self.revocations.state.sets.values()),
        )

    def own_revocations(self, after: int = 0) -> RevocationResponse:
        """Return this site's set if its number is above `after`, and the time here."""
        own = self.revocations.own()
        is_newer = own is not None and own.content.number > after
        return RevocationResponse(
            site=self._site,
            now=format_time(self._clock.now()),
            revocations=own.envelope.to_json() if own is not None and is_newer else None,
        )

    async def learn_revocations(self, site: SiteName, response: RevocationResponse) -> bool:
        """Take a peer's newer set, and note its clock; tell whether the set was new. Raises as `Revocations.learn`."""
        self.floor.hear(site, parse_time(response.now), self._clock.now())
        return await self.revocations.learn(response.revocations, self.state().current)

    async def import_bundle(self, data: bytes, *, root_fingerprint: Digest | None = None) -> TrustBundle:
        """Verify the bundle in `data` against what is trusted, keep it with its log entry, and trust it from now on.

        The first import pins `root_fingerprint`, or the bundle's own roots if none is given. Importing the current bundle again
        changes nothing.

        Raises:
            PeerError: E-FORMAT. IntegrityError: E-SIGNATURE, or E-TRUST for pin, domain, version, or a bundle without this site.
            Held: E-TRUST-EXPIRED.
        """
        envelope = parse_envelope(data, bytes_max=TRUST_BUNDLE_BYTES_MAX)
        claimed = TrustBundle.read_unverified(envelope)
        if self._site not in {site.name for site in claimed.sites}:
            raise IntegrityError("E-TRUST", f"the bundle does not name this site, {self._site}")

        def change(transaction: Transaction) -> TrustBundle:
            current = _read(transaction).state or TrustedState(root_fingerprint or claimed.roots.fingerprint)
            if root_fingerprint is not None and root_fingerprint != current.pinned:
                raise IntegrityError("E-TRUST", f"pinned at first import: {current.pinned}, given: {root_fingerprint}")
            accepted = current.accept(envelope, self._clock.now())
            if accepted is not current:
                _keep_bundle(transaction, envelope, accepted)
            return accepted.current

        bundle = await self._catalog.write(change)
        await self.refresh()
        return bundle

    async def learn(self, response: TrustResponse) -> int:
        """Take from a peer's answer what verifies: newer KEM statements and newer log heads; return how many were new.

        The peer's bundle is not taken: an operator imports bundles. What does not verify is left out, for the peer passes on what
        others said, and one bad line is no reason to miss a good one.
        """
        bundle = self.state().current
        learned = [await self.take_revocations(one) for one in response.revocations]
        kem = [one for one in map(_parse_quietly, response.kem_statements) if one is not None]
        fresh = {name: envelope for envelope in kem if (name := self._new_kem(envelope, bundle)) is not None}
        heads = {site: note for site, note in response.checkpoints.items() if self._is_newer_head(site, note, bundle)}
        if not fresh and not heads:
            return sum(learned)

        def change(transaction: Transaction) -> None:
            for name, envelope in fresh.items():
                transaction.put_site_document(name, envelope.encode())
            for site, note in heads.items():
                transaction.put_site_document(f"checkpoint/{site}", note.encode("utf-8"))

        await self._catalog.write(change)
        await self.refresh()
        return len(fresh) + len(heads) + sum(learned)

    async def take_revocations(self, document: Mapping[str, JsonValue] | None) -> bool:
        """Take a revocation set that came along with something else, if it verifies and is newer; tell whether it was."""
        try:
            return await self.revocations.learn(document, self.state().current)
        except CarnetError as error:
            get_logger().warning(events.REVOCATIONS_REFUSED, error=str(error))
            return False

    def _new_kem(self, envelope: Envelope, bundle: TrustBundle) -> str | None:
        """Return the document name of a KEM statement of another site that verifies and is not known yet."""
        try:
            statement = open_kem_statement(envelope, bundle)
        except CarnetError:
            return None
        name = f"kem/{statement.site}/{statement.number}"
        if statement.site == self._site or name in self._known.kem or not statement.is_valid_at(self._clock.now()):
            return None
        return name

    def _is_newer_head(self, site: str, note: str, bundle: TrustBundle) -> bool:
        """Tell whether the note is another site's signed head and its log has grown since the one we keep."""
        if site == self._site:
            return False
        try:
            head = _open_head(site, note, bundle)
            kept = self._known.checkpoints.get(site)
            return kept is None or _open_head(site, kept, bundle).size < head.size
        except CarnetError:
            return False


def _open_head(site: str, note: str, bundle: TrustBundle) -> Checkpoint:
    known = bundle.site(SiteName(site))
    return open_checkpoint(note.encode("utf-8"), origin=log_origin(bundle.trust_domain, known.name), key=known.signing_key)


def _parse_quietly(document: Mapping[str, JsonValue]) -> Envelope | None:
    try:
        return parse_envelope(document)
    except CarnetError:
        return None


def _keep_bundle(transaction: Transaction, envelope: Envelope, accepted: TrustedState) -> None:
    bundle, encoded = accepted.current, envelope.encode()
    transaction.put_site_document(BUNDLE, encoded)
    transaction.put_site_document(f"{BUNDLE}/{bundle.version}", encoded)
    transaction.put_site_document(PINNED, accepted.pinned.encode("ascii"))
    fields: dict[str, JsonValue] = {
        "version": bundle.version,
        "bundle": bundle.digest,
        "roots": bundle.roots.fingerprint,
        "expires": bundle.expires,
    }
    transaction.append(EntryType.TRUST_IMPORTED, fields)


def _newest_heads(transaction: Transaction) -> dict[str, str]:
    """Return the newest head of each site that was seen here, whether it was told to us or proved something to us."""
    newest = _heads(transaction, "checkpoint/")
    for site, note in _heads(transaction, "head/").items():
        if site not in newest or _size_of(newest[site]) < _size_of(note):
            newest[site] = note
    return newest


def _heads(transaction: Transaction, prefix: str) -> dict[str, str]:
    """Return the kept heads whose names begin with `prefix`, by site."""
    return {name.removeprefix(prefix): body.decode("utf-8") for name, body in transaction.site_documents(prefix).items()}


def _size_of(note: str) -> int:
    """Read the size of a head kept here; it was verified when it was kept."""
    return int(note.split("\n", 2)[1])


def _read(transaction: Transaction) -> _Known:
    """Return what the catalog holds. The bundle was verified when it was imported; the catalog is ours."""
    encoded, pinned = transaction.site_document(BUNDLE), transaction.site_document(PINNED)
    if encoded is None or pinned is None:
        return _Known()
    envelope = parse_envelope(encoded, bytes_max=TRUST_BUNDLE_BYTES_MAX)
    bundle = TrustBundle.read_unverified(envelope)
    kem = {}
    for name, document in transaction.site_documents("kem/").items():
        statement = parse_envelope(document)
        try:
            kem[name] = (statement, open_kem_statement(statement, bundle))
        except CarnetError:
            continue  # the site left the bundle, or has a new signing key there: its old word counts no more
    checkpoints = {
        name.removeprefix("checkpoint/"): note.decode("utf-8") for name, note in transaction.site_documents("checkpoint/").items()
    }
    return _Known(TrustedState(Digest(pinned.decode("ascii")), bundle), envelope, kem, checkpoints)
