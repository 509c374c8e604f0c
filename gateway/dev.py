"""One ready-to-use site for trying out and for tests: made at the first start, kept at every other one.

Everything a real site gets from several people over several days is here at once: a root key beside the site, a bundle signed by
it, an enrolled agent, a person. None of it is for anything but trying out.

Rules:      1. the site serves loopback only  2. the agent is enrolled by the use case that serves everyone
            3. a restart keeps keys, catalog and store, and renews whatever is due
Layout:     <site directory> | dev/root.key | agent/carnet.toml, agent/identity/ | person/person.crt, person.key, signing.key
Spec:       docs/operations.md section "Trying out"
"""

import errno
import os
import secrets
import socket
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from carnet.errors import CallerError, CarnetError
from carnet.identifiers import AgentName, Jurisdiction, SiteName, SpiffeId
from carnet.identity import FILE_BYTES_MAX, AgentIdentity, AgentKeys
from carnet.invite import encode_secret
from carnet.keys import KemPrivateKey, SigningKey, VerifyingKey, encode_private_key, parse_private_key
from carnet.suites import KEY_BYTES
from carnet.timestamps import parse_time
from carnet.trust import Person
from gateway.enrolment import Enrolment, InviteOrder, make_invite
from gateway.keyring import FileKeyring, kem_rotation_due, read_private_file, rotate_kem
from gateway.offline import OfflineSite, create_site, open_site
from gateway.pki import Authority, encode_chain, encode_key, make_request, new_key, renewal_due
from gateway.policies import dev_policy
from gateway.ports import Transaction
from gateway.proposals import Change, propose, read_card, unsigned
from gateway.records import IdentityRecord
from gateway.settings import FILE_NAME, GatewaySettings, Limits, Timeouts, load_settings
from gateway.sitedir import SitePaths, renew_own_certificate
from gateway.storage.durable import make_directory, write_durable

SITE: Final = SiteName("dev")
AGENT: Final = AgentName("dev")
PERSON: Final = AgentName("dev")
_GRANTS = ("push,pull,delete,inspect:*@*",)
_PERSON_GRANTS = ("push,pull,delete,inspect,admin:*@*",)
_PERSON_ROLES = ("operator", "auditor")
_BUNDLE_LIFE = timedelta(days=365)
_BUNDLE_SPARE = timedelta(days=30)
_PERSON_LIFE = timedelta(days=30)
_AGENT_SPARE = timedelta(hours=8)
_DRAIN_S = 2.0
_RESERVE_BYTES = 64 << 20
_PORT_TRIES = 20


@dataclass(frozen=True)
class DevSite:
    """A site that is ready to be served, and what to tell about it."""

    settings: GatewaySettings
    announcement: dict[str, str]
    """The line of JSON for standard output."""


async def prepare(directory: Path, port: int | None) -> DevSite:
    """Return the site in `directory` (absolute), made or brought up to date, for `port` of loopback (None or 0: a free one).

    Raises:
        CallerError: E-CONFIG if the directory holds something else, or the port is taken.
    """
    port = _free_port(port or 0)
    now = datetime.now(UTC)
    if not (directory / FILE_NAME).exists():
        await create_site(directory, _first_settings(port), dev_policy(), now)
    settings = _served_settings(load_settings(directory), port)
    if settings.site != SITE:
        raise CallerError("E-CONFIG", f"{directory} holds site {settings.site}, not one for trying out", remedy="choose another")
    async with open_site(directory) as site:
        await _bring_up_to_date(site, settings, now)
    return DevSite(settings, _announcement(directory, port))


async def _bring_up_to_date(site: OfflineSite, settings: GatewaySettings, now: datetime) -> None:
    """Renew what is due, in the order in which one rests on another."""
    authority, keyring, root = site.authority(), site.keyring(), site.paths.root
    renew_own_certificate(site.paths, settings, authority, now)
    person = _signing_key(root / "person" / "signing.key")
    await _bring_bundle(site, settings.url, person.public, now)
    if kem_rotation_due(site.trust.newest_kem(settings.site, now), now):
        await rotate_kem(site.catalog, keyring, settings.site, now)
    await _bring_person(site, authority, now)
    if not _has_current_agent(root / "agent" / "identity", now):
        await _enrol_agent(site, settings.url, authority, keyring)
    agent = f'url = "{settings.url}"\nsite = "{SITE}"\nidentity_dir = "identity"\n'
    write_durable(root / "agent" / "carnet.toml", agent.encode("ascii"))


async def _bring_bundle(site: OfflineSite, url: str, person: VerifyingKey, now: datetime) -> None:
    """Sign and import a bundle that names the site under its present address, if the one there does not."""
    root = _signing_key(site.paths.root / "dev" / "root.key")
    current = site.trust.current()
    if current is not None and current.site(SITE).urls == (url,) and parse_time(current.expires) > now + _BUNDLE_SPARE:
        return
    change = Change(
        roots=(root.public,),
        threshold=1,
        cards=(read_card(site.paths.card).model_copy(update={"urls": (url,)}),),
        people=(Person(name=PERSON, roles=_PERSON_ROLES, keys=(person,)),),
        life=_BUNDLE_LIFE,
    )
    envelope = unsigned(propose(current, change, now)).with_signature(root)
    await site.trust.import_bundle(envelope.encode(), root_fingerprint=None)


async def _bring_person(site: OfflineSite, authority: Authority, now: datetime) -> None:
    """Give the person a certificate if it is due, and every right but to approve."""
    certificate, key_path = site.paths.root / "person" / "person.crt", site.paths.root / "person" / "person.key"
    identity = SpiffeId.make(site.settings.trust_domain, SITE, "person", PERSON)
    if certificate.exists() and not renewal_due(x509.load_pem_x509_certificate(certificate.read_bytes()), now):
        return
    key = new_key()
    write_durable(key_path, encode_key(key))
    leaf = authority.issue_client(identity, key.public_key(), now, _PERSON_LIFE)
    write_durable(certificate, encode_chain(leaf, authority.certificate))
    record = IdentityRecord(identity=identity, kind="person", grants=_PERSON_GRANTS, enrolled_at=now)

    def change(transaction: Transaction) -> None:
        transaction.save_identity(record)

    await site.catalog.write(change)


async def _enrol_agent(site: OfflineSite, url: str, authority: Authority, keyring: FileKeyring) -> None:
    """Invite the agent and enrol it, by the same use cases as any agent; then write its identity directory."""
    order = InviteOrder(name=AGENT, grants=_GRANTS, url=url)
    invite = await make_invite(site.catalog, site.facts, authority.fingerprint, site.trust, order)
    enrolment = Enrolment(
        catalog=site.catalog,
        log=_NotServing(),
        keyring=keyring,
        authority=authority,
        trust=site.trust,
        facts=site.facts,
        clock=site.clock,
    )
    tls_key = new_key()
    keys = AgentKeys(
        SigningKey(secrets.token_bytes(KEY_BYTES)), KemPrivateKey(secrets.token_bytes(KEY_BYTES)), encode_key(tls_key)
    )
    request = keys.request(invite=invite.id, secret=encode_secret(invite.secret), csr=make_request(tls_key))
    response = await enrolment.enroll(request)
    identity = AgentIdentity.create(keys=keys, ca=invite.ca, roots=invite.root, response=response, now=site.clock.now())
    directory = site.paths.root / "agent" / "identity"
    make_directory(directory)
    for name, data in identity.files().items():
        write_durable(directory / name, data)


class _NotServing:
    """The log of a site that serves nobody yet: the server publishes what waits before it accepts a connection."""

    async def checkpointed(self, index: int) -> None:
        """Return at once."""
        del index


def _has_current_agent(directory: Path, now: datetime) -> bool:
    """Tell whether the agent's identity is whole and its certificate good for some hours; it renews itself from then on."""
    try:
        identity = AgentIdentity.parse({name: (directory / name).read_bytes() for name in FILE_BYTES_MAX})
        return identity.leaf.not_valid_after_utc > now + _AGENT_SPARE
    except (OSError, CarnetError):
        return False


def _signing_key(path: Path) -> SigningKey:
    """Return the signing key in `path`, made if it is not there."""
    if not path.exists():
        make_directory(path.parent)
        write_durable(path, encode_private_key(SigningKey(secrets.token_bytes(KEY_BYTES))).encode("ascii"))
    key = parse_private_key(read_private_file(path))
    if not isinstance(key, SigningKey):
        raise CallerError("E-CONFIG", f"{path} holds no signing key", remedy="remove the directory and start again")
    return key


def _first_settings(port: int) -> GatewaySettings:
    return GatewaySettings(
        site=SITE,
        jurisdiction=Jurisdiction("XX"),  # user-assigned in ISO 3166-1: no country's law
        operator="someone trying it out",
        trust_domain="dev.example",
        url=f"https://localhost:{port}",
        listen=(f"127.0.0.1:{port}",),
        hosts=("localhost", "127.0.0.1", "::1"),
    )


def _served_settings(stored: GatewaySettings, port: int) -> GatewaySettings:
    """Return the stored settings for this start: its port, loopback in both families that the machine has, a short drain."""
    listen = [f"127.0.0.1:{port}"] + ([f"[::1]:{port}"] if _can_bind(socket.AF_INET6, "::1", port) else [])
    timeouts = Timeouts(**{**stored.timeouts.model_dump(), "drain_s": _DRAIN_S})
    limits = Limits(**{**stored.limits.model_dump(), "disk_reserve_bytes": min(stored.limits.disk_reserve_bytes, _RESERVE_BYTES)})
    changed = {"url": f"https://localhost:{port}", "listen": tuple(listen), "timeouts": timeouts, "limits": limits}
    return stored.model_copy(update=changed)


def _announcement(directory: Path, port: int) -> dict[str, str]:
    person = directory / "person"
    return {
        "url": f"https://localhost:{port}",
        "registry": f"localhost:{port}",
        "console": f"https://localhost:{port}/console",
        "ca": str(SitePaths(directory).authority_certificate),
        "cert": str(person / "person.crt"),
        "key": str(person / "person.key"),
        "person": str(person / "signing.key"),
        "config": str(directory / "agent" / "carnet.toml"),
    }


def _free_port(wanted: int) -> int:
    """Return `wanted`, or for 0 a port that is free in both families; raise `CallerError` E-CONFIG if it is taken."""
    if wanted:
        reason = _refusal(socket.AF_INET, "127.0.0.1", wanted)
        if reason is not None:
            said = "is taken" if reason == errno.EADDRINUSE else f"cannot be used: {os.strerror(reason).lower()}"
            raise CallerError("E-CONFIG", f"port {wanted} {said}", remedy="name another with --port, or none for a free one")
        return wanted
    for _ in range(_PORT_TRIES):
        with closing(socket.socket(socket.AF_INET)) as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if not socket.has_ipv6 or _can_bind(socket.AF_INET6, "::1", port) or not _can_bind(socket.AF_INET6, "::1", 0):
            return port
    raise CallerError("E-CONFIG", "no free port was found on loopback", remedy="name one with --port")


def _can_bind(family: socket.AddressFamily, host: str, port: int) -> bool:
    return _refusal(family, host, port) is None


def _refusal(family: socket.AddressFamily, host: str, port: int) -> int | None:
    """Return why the system does not let us listen there, as it numbers errors, or None."""
    try:
        with closing(socket.socket(family)) as probe:
            # As the server will: a port in TIME_WAIT from the run before is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return None
