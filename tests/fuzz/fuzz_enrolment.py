"""Fuzz targets of enrolment and set-up: invites, certificate requests, site cards, proposals, grants, addresses."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from carnet.errors import PeerError
from carnet.identifiers import AgentName, Digest, SiteName, SpiffeId
from carnet.identity import AgentIdentity, AgentKeys
from carnet.invite import Invite
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import EnrollResponse
from carnet.timestamps import format_time
from carnet.trust import AgentStatement, SiteCard
from gateway.grants import parse_grant
from gateway.pki import Authority, encode_chain, encode_key, make_request, new_key, read_request
from gateway.proposals import Change, parse_lane, propose, read_card, read_proposal, unsigned
from gateway.settings import parse_address
from tests.fuzz.drive import Target

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROOT = SigningKey(bytes(31) + b"\1")
SITE = SigningKey(bytes(31) + b"\2")
_FILES: dict[str, bytes] = {}
INVITE = Invite(
    url="https://gateway.example.com:8443",
    site=SiteName("us"),
    name=AgentName("ci"),
    ca="0a" * 32,
    root=Digest.of(b"roots"),
    id="0b" * 16,
    secret=bytes(32),
)


def invite(data: bytes) -> None:
    """What reads is what would be written."""
    text = data.decode("utf-8", "replace")
    assert Invite.parse(text).encode() == text.strip()


def request(data: bytes) -> None:
    """A key, or a refusal."""
    read_request(data.decode("utf-8", "replace"))


def card(data: bytes) -> None:
    """A card is read from a file."""
    _with_file(data, read_card)


def proposal(data: bytes) -> None:
    """A proposal is read from a file."""
    _with_file(data, read_proposal)


def identity_tls(data: bytes) -> None:
    """Key and chain of an identity directory: taken whole, or refused."""
    AgentIdentity.parse({**_FILES, "tls.pem": data})


def grant(data: bytes) -> None:
    """A grant decides about any name in bounded time."""
    parse_grant(data.decode("utf-8", "replace")).allows("push", "a/" * 100, "home", NOW)


def lane(data: bytes) -> None:
    """A lane on the command line."""
    parse_lane(data.decode("utf-8", "replace"))


def address(data: bytes) -> None:
    """An address to listen on; its errors are pydantic's to translate."""
    try:
        parse_address(data.decode("utf-8", "replace"))
    except ValueError as error:
        raise PeerError("E-FORMAT", str(error)) from None


def _identity_files() -> dict[str, bytes]:
    """An identity directory, made without a site's catalog."""
    us, key, tls = SiteName("us"), SigningKey(bytes(32)), new_key()
    authority, kem = Authority.create(us, NOW), KemPrivateKey(bytes(32))
    card = _card(authority)
    bundle = propose(None, Change(roots=(ROOT.public,), cards=(card,)), NOW)
    identity = SpiffeId.make(card.trust_domain, us, "agent", "ci")
    statement = AgentStatement(
        identity=identity,
        site=us,
        signing_key=key.public,
        kem_key=kem.public,
        not_before=format_time(NOW),
        not_after=format_time(NOW + timedelta(days=30)),
    ).sign(SITE)
    chain = encode_chain(authority.issue_client(identity, tls.public_key(), NOW), authority.certificate)
    response = EnrollResponse(
        name=AgentName("ci"),
        site=us,
        certificate=chain.decode(),
        agent_statement=statement.to_json(),
        bundle=unsigned(bundle).with_signature(ROOT).to_json(),
    )
    keys = AgentKeys(key, kem, encode_key(tls))
    made = AgentIdentity.create(keys=keys, ca=authority.fingerprint, roots=bundle.roots.fingerprint, response=response, now=NOW)
    return made.files()


def _card(authority: Authority) -> SiteCard:
    return SiteCard(
        name=SiteName("us"),
        jurisdiction="US",
        operator="Example Corp",
        urls=("https://localhost:8443",),
        tls_ca=authority.pem.decode(),
        signing_key=SITE.public,
        trust_domain="example.com",
    )


def targets() -> list[Target]:
    """Return the targets of enrolment and set-up."""
    _FILES.update(_identity_files())
    site = _card(Authority.create(SiteName("us"), NOW))
    bundle = unsigned(propose(None, Change(roots=(ROOT.public,), cards=(site,)), NOW)).with_signature(ROOT)
    return [
        Target("invite", invite, [INVITE.encode().encode()]),
        Target("certificate-request", request, [make_request(new_key())]),
        Target("site-card", card, [site.encode()]),
        Target("trust-proposal", proposal, [bundle.encode()]),
        Target("identity-tls", identity_tls, [_FILES["tls.pem"]]),
        Target("grant", grant, [b"push,pull:app/*@us-eu", b"pull:*a*b*@*"]),
        Target("lane", lane, [b"out=us:eu,jp:sealed"]),
        Target("address", address, [b"[::1]:8443", b"localhost:0"]),
    ]


def _with_file(data: bytes, read) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(data)
        read(path)
