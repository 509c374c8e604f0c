"""One command's connection to its home site: identity loaded and renewed, trust bundle advanced, peers' keys verified.

Every command that talks to the gateway begins here. What the gateway says is used once it verified against the pinned roots.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agent.enroll import renew_if_due
from agent.identity import advance_trust, load_identity
from agent.index_cache import IndexCache
from agent.settings import AgentSettings, user_cache_dir
from carnet.envelope import parse_envelope
from carnet.errors import CarnetError, Held, NotAuthenticated, Unavailable
from carnet.flow.client import PeerClient
from carnet.flow.link import OnWait, Timeouts
from carnet.flow.tls import ClientContext
from carnet.identifiers import SiteName
from carnet.identity import AgentIdentity
from carnet.keys import KemPublicKey
from carnet.messages import EnvelopeJson
from carnet.release import site_recipient
from carnet.revocation import CLOCK_AHEAD, RevocationSet, RevocationState, read_sets
from carnet.suites import SUITE_1
from carnet.timestamps import format_time, parse_time
from carnet.trust import KemStatement, TrustBundle, newest_kem, open_kem_statement

_BUSY_S = 900.0
"""What moves something waits so long for a gateway that is busy with others: it is one of a crowd, and its turn comes."""


def now() -> datetime:
    """Return the time by this machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Session:
    """An open connection to the home site, and what is trusted."""

    settings: AgentSettings
    identity: AgentIdentity
    client: PeerClient
    bundle: TrustBundle
    kem_statements: tuple[KemStatement, ...]
    revocations: RevocationState = field(default_factory=RevocationState)
    """Who is revoked, as the home site passes it on; each set is signed by its own site."""

    @property
    def site(self) -> SiteName:
        """The home site."""
        return self.identity.id.site

    @property
    def index_cache(self) -> IndexCache:
        """The pages of indexes that this machine keeps."""
        return IndexCache(self.settings.cache_dir or user_cache_dir(), self.settings.cache_mib)

    def kem_key(self, site: SiteName) -> tuple[int, KemPublicKey]:
        """Return number and key of the site's newest valid KEM key; raise `Unavailable` E-UNREACHABLE if none is known yet."""
        usable = (one for one in self.kem_statements if not self.revocations.is_kem_revoked(one))
        found = newest_kem(usable, site, SUITE_1, now())
        if found is None:
            raise Unavailable(
                "E-UNREACHABLE",
                f"site {site} has no valid KEM key that {self.site} knows",
                remedy=f"check that the gateway of {site} runs and can be reached from {self.site}, then run the command again",
            )
        return found.number, found.key


@asynccontextmanager
async def open_session(
    settings: AgentSettings,
    *,
    connections: int | None = None,
    timeouts: Timeouts | None = None,
    grace: timedelta = timedelta(0),
    on_wait: OnWait | None = None,
) -> AsyncIterator[Session]:
    """Yield a session; the certificate is renewed first if it is due. `grace` is how long ago the trust bundle may have expired.

    `on_wait` is told when the gateway is waited for.

    Raises:
        CallerError: E-NOT-ENROLLED, E-CONFIG. Unavailable: E-UNREACHABLE. IntegrityError: E-TRUST, E-SIGNATURE.
        Held: E-TRUST-EXPIRED, E-CLOCK. NotAuthenticated: E-CERTIFICATE.
    """
    identity = load_identity(settings.identity_dir, root_fingerprint=settings.root_fingerprint)
    _check_certificate(identity)
    client = connect(settings, identity, connections=connections or settings.parallel, timeouts=timeouts, on_wait=on_wait)
    async with client:
        identity = await renew_if_due(identity, settings.identity_dir, client, now())
        response = await client.trust()
        identity = advance_trust(settings.identity_dir, identity, parse_envelope(response.bundle), now())
        bundle = identity.trust.fresh(now() - grace)
        statements = tuple(_verified(response.kem_statements, bundle))
        revocations = read_sets(map(parse_envelope, response.revocations), bundle)
        _check_clock(revocations.newest(identity.id.site))
        yield Session(settings, identity, client, bundle, statements, revocations)


async def with_newest_keys(session: Session) -> Session:
    """Return the session with the KEM statements and revocation sets that the home site knows now."""
    response = await session.client.trust()
    statements = tuple(_verified(response.kem_statements, session.bundle))
    return replace(
        session, kem_statements=statements, revocations=read_sets(map(parse_envelope, response.revocations), session.bundle)
    )


def connect(
    settings: AgentSettings,
    identity: AgentIdentity,
    *,
    connections: int | None,
    timeouts: Timeouts | None = None,
    on_wait: OnWait | None = None,
) -> PeerClient:
    """Return a client for the home site that presents this identity's certificate."""
    pem = settings.identity_dir / "tls.pem"
    gateway = site_recipient(identity.trust.current.trust_domain, identity.id.site)
    return PeerClient(
        [settings.url],
        ClientContext(pem, None, identity.authority_pem),
        gateway=gateway,
        connections=connections,
        timeouts=timeouts or Timeouts(busy_s=_BUSY_S),
        on_wait=on_wait,
    )


def _check_certificate(identity: AgentIdentity) -> None:
    """Raise before a gateway refuses the certificate in the handshake, where nobody could say why.

    Raises:
        NotAuthenticated: E-CERTIFICATE if it has ended. Held: E-CLOCK if it has not begun.
    """
    leaf, moment = identity.leaf, now()
    if moment >= leaf.not_valid_after_utc:
        raise NotAuthenticated(
            "E-CERTIFICATE",
            f"the certificate of {identity.id} ended at {format_time(leaf.not_valid_after_utc)}",
            remedy="ask the operator of the site for a new invite, and run `carnet enroll INVITE`",
        )
    if moment < leaf.not_valid_before_utc:
        begins = format_time(leaf.not_valid_before_utc)
        raise Held(
            "E-CLOCK",
            f"the certificate of {identity.id} begins at {begins}, the clock of this machine shows {format_time(moment)}",
        )


def _check_clock(own: RevocationSet | None) -> None:
    """Raise `Held` E-CLOCK if what the home site signed within the last hour says that this machine's clock is far behind.

    A clock that is ahead shows where the site checks what was signed by it.
    """
    if own is not None and now() < parse_time(own.issued) - CLOCK_AHEAD:
        raise Held(
            "E-CLOCK", f"the clock of this machine shows {format_time(now())}, but {own.issued} is past at site {own.site}"
        )


def _verified(envelopes: tuple[EnvelopeJson, ...], bundle: TrustBundle) -> list[KemStatement]:
    """Return the statements that the sites themselves signed; a gateway cannot add one (what does not verify is left out)."""
    found = []
    for envelope in envelopes:
        try:
            found.append(open_kem_statement(parse_envelope(envelope), bundle))
        except CarnetError:
            continue
    return found
