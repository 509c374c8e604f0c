"""How an identity comes to have a certificate: an invite, used once; then renewal by itself.

The invite's secret is used in the same transaction that creates the identity and appends the log entry. The certificate is
issued after that entry is under a checkpoint: no identity acts that the log does not know.

Rules:      1. an invite works once; the very same request is answered again, in case its answer was lost
            2. unknown, used, expired and wrong look the same, with equal work
            3. the site decides the name; the request brings public keys only  4. nothing is enrolled under an expired bundle
            5. who is revoked, or whose key is, renews nothing; a new invite wants new keys, and the old ones stay void
Spec:       docs/protocol.md section "Enrolment"; SECURITY 7.3
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from carnet.encoding import JsonValue, canonical, parse_json
from carnet.entries import EntryType
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, NotAuthorised, PeerError
from carnet.identifiers import AgentName, SiteName, SpiffeId
from carnet.invite import SECRET_BYTES, Invite, decode_secret
from carnet.keys import KemPublicKey, VerifyingKey
from carnet.limits import STATEMENT_BYTES_MAX
from carnet.messages import EnrollRequest, EnrollResponse, RenewRequest, RenewResponse
from carnet.timestamps import format_time, parse_time
from carnet.trust import AgentStatement
from gateway.granting import NO_END, Ends, dated
from gateway.pki import Authority, encode_chain, read_request
from gateway.ports import Catalog, Clock, Keyring, Transaction
from gateway.records import IdentityRecord, InviteRecord
from gateway.revocation_marks import key_mark, mark_of, mark_replaced, statement_floor
from gateway.trusting import Trust

INVITE_LIFE: Final = timedelta(hours=1)
STATEMENT_LIFE: Final = timedelta(days=30)
_OWNERS_MAX = 31
"""Owners that an invite names; with the operator they are as many as a statement may have."""
_OWNER_CHARS_MAX = 255
_STATEMENT_BACKDATE = timedelta(minutes=5)


class Checkpointed(Protocol):
    """The part of the port `Log` that enrolment needs."""

    async def checkpointed(self, index: int) -> None:
        """Return when the entry is under a durable signed checkpoint."""
        ...


@dataclass(frozen=True)
class SiteFacts:
    """What enrolment says about the site in everything it signs."""

    trust_domain: str
    site: SiteName
    operator: str


@dataclass(frozen=True)
class _AgentKeys:
    """The public halves that a request brings."""

    tls: ec.EllipticCurvePublicKey
    signing: VerifyingKey
    kem: KemPublicKey


class Enrolment:
    """The use cases `enroll` and `renew`."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        log: Checkpointed,
        keyring: Keyring,
        authority: Authority,
        trust: Trust,
        facts: SiteFacts,
        clock: Clock,
    ) -> None:
        """Hold the ports."""
        self._catalog = catalog
        self._log = log
        self._keyring = keyring
        self._authority = authority
        self._trust = trust
        self._facts = facts
        self._clock = clock

    async def enroll(self, request: EnrollRequest) -> EnrollResponse:
        """Use an invite up and return certificate, agent statement and trust bundle.

        Steps: (1) the request's own form, which tells nothing about invites; (2) the bundle is fresh; (3) in one transaction the
        invite is used, the identity created with its signed statement, the entry appended; (4) the entry is under a checkpoint;
        (5) the certificate is issued.

        Raises:
            PeerError: E-REQUEST for keys or a request that are not well formed.
            NotAuthorised: E-INVITE for an invite that is unknown, used, expired, or another secret's.
            Held, IntegrityError: E-TRUST-EXPIRED, E-TRUST when the site has no bundle to enrol under.
        """
        keys, secret = _parse_keys(request), decode_secret(request.secret)  # (1)
        self._trust.ground()  # (2)

        record, statement, index = await self._catalog.write(
            lambda transaction: self._admit(transaction, request.invite, keys, secret)
        )  # (3)
        await self._trust.refresh_revocations()
        await self._log.checkpointed(index)  # (4)
        return EnrollResponse(  # (5)
            name=AgentName(record.identity.name),
            site=self._facts.site,
            certificate=self._issue(record.identity, keys.tls),
            agent_statement=statement.to_json(),
            bundle=self._trust.bundle_envelope().to_json(),
        )

    async def renew(self, identity: SpiffeId, request: RenewRequest) -> RenewResponse:
        """Return the next certificate, for a new TLS key; the statement stays until two thirds of its life have passed.

        Raises:
            PeerError: E-REQUEST for a malformed request.
            NotAuthorised: E-CERTIFICATE if this identity is not an enrolled agent.
            Held, IntegrityError: E-TRUST-EXPIRED, E-TRUST as for `enroll`.
        """
        tls_key = read_request(request.csr)
        self._trust.ground()

        def change(transaction: Transaction) -> tuple[Envelope, int]:
            mark = mark_of(transaction, identity)
            if mark is not None and mark.is_revoked:
                raise NotAuthorised("E-REVOKED", f"{identity} was revoked at {mark.since} ({mark.reason})")
            record = transaction.identity(identity)
            if record is None or record.statement is None:
                raise NotAuthorised("E-CERTIFICATE", f"{identity} is not an agent enrolled at this site")
            _require_keys(transaction, AgentStatement.read_unverified(parse_envelope(record.statement)))
            statement = self._current_statement(transaction, record)
            if statement.encode() != record.statement:
                transaction.save_identity(replace(record, statement=statement.encode()))
            fields: dict[str, JsonValue] = {"identity": identity, "statement": AgentStatement.read_unverified(statement).digest}
            return statement, transaction.append(EntryType.AGENT_RENEWED, fields)

        statement, index = await self._catalog.write(change)
        await self._log.checkpointed(index)
        return RenewResponse(certificate=self._issue(identity, tls_key), agent_statement=statement.to_json())

    def _admit(
        self, transaction: Transaction, number: str, keys: _AgentKeys, secret: bytes
    ) -> tuple[IdentityRecord, Envelope, int]:
        """Use the invite and create the identity, or find it created by this very request, whose answer was lost."""
        invite = _check_invite(transaction, number, secret)
        if invite.used_at is not None:
            return self._repeat(transaction, invite, keys)
        transaction.save_invite(replace(invite, used_at=transaction.now))
        transaction.put_site_document(_owners_name(invite.identity), transaction.site_document(_owners_name(invite.id)) or b"[]")
        statement = self._state(transaction, invite.identity, keys.signing, keys.kem)
        _require_keys(transaction, AgentStatement.read_unverified(statement))
        if transaction.identity(invite.identity) is not None or mark_of(transaction, invite.identity) is not None:
            mark_replaced(transaction, invite.identity)
        record = IdentityRecord(
            identity=invite.identity,
            kind="agent",
            grants=invite.grants,
            enrolled_at=transaction.now,
            statement=statement.encode(),
        )
        transaction.save_identity(record)
        fields: dict[str, JsonValue] = {
            "identity": invite.identity,
            "invite": invite.id,
            "signing_key": keys.signing.hex,
            "kem_key": keys.kem.digest,
            "grants": list(invite.grants),
        }
        return record, statement, transaction.append(EntryType.AGENT_ENROLLED, fields)

    def _repeat(self, transaction: Transaction, invite: InviteRecord, keys: _AgentKeys) -> tuple[IdentityRecord, Envelope, int]:
        """Answer again to whoever has the secret and the same keys; to anyone else the invite is used up."""
        record = transaction.identity(invite.identity)
        mark = mark_of(transaction, invite.identity)
        if record is None or record.statement is None or (mark is not None and mark.is_revoked):
            raise _refused()
        envelope = parse_envelope(record.statement)
        statement = AgentStatement.read_unverified(envelope)
        if (statement.signing_key, statement.kem_key) != (keys.signing, keys.kem):
            raise _refused()
        return record, envelope, transaction.append(EntryType.AGENT_RENEWED, {"identity": record.identity, "invite": invite.id})

    def _current_statement(self, transaction: Transaction, record: IdentityRecord) -> Envelope:
        """Return the identity's statement, or a new one for the same keys when the old one nears its end."""
        envelope = parse_envelope(record.statement or b"")
        statement = AgentStatement.open(envelope, [self._keyring.signing.public])
        start, end = parse_time(statement.not_before), parse_time(statement.not_after)
        if transaction.now < start + (end - start) * 2 / 3:
            return envelope
        return self._state(transaction, record.identity, statement.signing_key, statement.kem_key)

    def _state(self, transaction: Transaction, identity: SpiffeId, signing: VerifyingKey, kem: KemPublicKey) -> Envelope:
        """Return the site's signed statement about an agent; it begins after the last revocation of that name."""
        start = transaction.now - _STATEMENT_BACKDATE
        floor = statement_floor(transaction, identity)
        statement = AgentStatement(
            identity=identity,
            site=self._facts.site,
            signing_key=signing,
            kem_key=kem,
            owners=tuple(dict.fromkeys((self._facts.operator, *_owners(transaction, identity)))),
            not_before=format_time(start if floor is None else max(start, floor)),
            not_after=format_time(transaction.now + STATEMENT_LIFE),
        )
        return statement.sign(self._keyring.signing)

    def _issue(self, identity: SpiffeId, key: ec.EllipticCurvePublicKey) -> str:
        """Return the PEM chain for `key`: leaf, then our issuing CA."""
        leaf: x509.Certificate = self._authority.issue_client(identity, key, self._clock.now())
        return encode_chain(leaf, self._authority.certificate).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class InviteOrder:
    """What an operator asks for: whom to invite, with which grants, at which address, for how long."""

    name: AgentName
    grants: tuple[str, ...]
    url: str
    owners: tuple[str, ...] = ()
    """Who answers for the agent, beside the operator: they approve nothing that it seals."""
    life: timedelta = INVITE_LIFE
    ends: Ends = NO_END
    """Until when the rights last."""


async def make_invite(catalog: Catalog, facts: SiteFacts, ca_fingerprint: str, trust: Trust, order: InviteOrder) -> Invite:
    """Return a new invite, kept as the hash of its secret together with its log entry; the secret exists only in the answer.

    Raises:
        CallerError: E-USAGE for a grant that does not parse, or an end that is over. CapacityError: E-LIMIT agent_days.
        IntegrityError: E-TRUST if the site has no trust bundle yet.
    """
    _check_owners(order.owners)
    secret, number = secrets.token_bytes(SECRET_BYTES), secrets.token_hex(16)
    identity = SpiffeId.make(facts.trust_domain, facts.site, "agent", order.name)
    pinned = trust.state().current.roots.fingerprint

    def change(transaction: Transaction) -> None:
        grants = dated(order.grants, order.ends, trust.floor.judged(transaction.now).astimezone(UTC).date())
        record = InviteRecord(
            id=number,
            identity=identity,
            grants=grants,
            secret_sha256=hashlib.sha256(secret).digest(),
            expires_at=transaction.now + order.life,
        )
        transaction.save_invite(record)
        transaction.put_site_document(_owners_name(number), canonical(list(order.owners)))
        fields: dict[str, JsonValue] = {"identity": identity, "invite": number, "grants": list(grants)}
        transaction.append(EntryType.AGENT_INVITED, {**fields, "owners": list(order.owners)})

    await catalog.write(change)
    return Invite(url=order.url, site=facts.site, name=order.name, ca=ca_fingerprint, root=pinned, id=number, secret=secret)


def _owners_name(of: str) -> str:
    """Return the name of the site document with the owners that an invite names, or that an identity has by its last one."""
    return f"owners/{of}"


def _owners(transaction: Transaction, identity: SpiffeId) -> tuple[str, ...]:
    body = transaction.site_document(_owners_name(identity))
    found = [] if body is None else parse_json(body, bytes_max=STATEMENT_BYTES_MAX)
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _check_owners(owners: tuple[str, ...]) -> None:
    if len(owners) > _OWNERS_MAX:
        raise CallerError("E-USAGE", f"{len(owners)} owners, at most {_OWNERS_MAX} are named in a statement")
    for owner in owners:
        if not 0 < len(owner) <= _OWNER_CHARS_MAX or not owner.isprintable():
            raise CallerError(
                "E-USAGE", f"not an owner's name: {ascii(owner)[:80]}", remedy="write one line of 1 to 255 characters"
            )


def _parse_keys(request: EnrollRequest) -> _AgentKeys:
    try:
        signing, kem = VerifyingKey.from_hex(request.signing_key), KemPublicKey.from_hex(request.kem_key)
    except PeerError as error:
        raise PeerError("E-REQUEST", f"a public key in the request: {error.problem}") from None
    return _AgentKeys(read_request(request.csr), signing, kem)


def _require_keys(transaction: Transaction, statement: AgentStatement) -> None:
    """Return if neither key that the statement is about was taken back; raise `NotAuthorised` E-REVOKED otherwise."""
    for keyid in (statement.signing_key.keyid, statement.kem_key.digest):
        mark = key_mark(transaction, keyid)
        if mark is not None:
            raise NotAuthorised("E-REVOKED", f"a key of {statement.identity} was revoked at {mark.since} ({mark.reason})")


def _check_invite(transaction: Transaction, number: str, secret: bytes) -> InviteRecord:
    """Return the invite, used or not, if secret and time are right; every reason to refuse looks and costs the same (rule 2)."""
    invite = transaction.invite(number)
    given = hashlib.sha256(secret).digest()
    matches = hmac.compare_digest(invite.secret_sha256 if invite else bytes(len(given)), given)
    if invite is None or not matches or transaction.now >= invite.expires_at:
        raise _refused()
    return invite


def _refused() -> NotAuthorised:
    return NotAuthorised("E-INVITE", "the invite is not valid")
