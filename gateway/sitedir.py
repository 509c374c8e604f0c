"""The site directory: what lies where, and how a new one is made.

Made once, by `init`; afterwards the server and the commands find everything through the paths here. The settings file is written
last, so a directory in which `init` was interrupted is no site.

Rules:      1. nothing that exists is overwritten  2. directories 0700, files 0600: it is one operating system user's
            3. the site card holds public values only
Layout:     gateway.toml | site-card.json | keys/ ca/ trust/ policy/ store/ log/ | catalog.sqlite
Spec:       docs/operations.md section "Site directory"
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Final

from cryptography import x509

from carnet.encoding import JsonValue
from carnet.entries import EntryType
from carnet.errors import CallerError, PeerError, Unavailable
from carnet.keys import VerifyingKey
from carnet.statement import parse_model
from carnet.trust import SiteCard
from gateway.keyring import FileKeyring, create_keys, read_private_file, rotate_kem, static_key_path
from gateway.pki import Authority, encode_chain, encode_key, new_key, parse_key, renewal_due
from gateway.ports import Catalog, Transaction
from gateway.settings import FILE_NAME, GatewaySettings, encode_settings
from gateway.storage.durable import make_directory, sync_directory, write_durable

CATALOG_NAME: Final = "catalog.sqlite"
CARD_NAME: Final = "site-card.json"
LOCK_NAME: Final = "serve.lock"
"""Locked by the process that serves the site."""
_NOT_OURS_TO_MIND: Final = frozenset({LOCK_NAME, "lost+found"})
"""What may lie in the place of a new site: the lock of the process that makes it, and what file systems put at their top."""
_NAMES_SHOWN_MAX, _NAME_CHARS_MAX = 3, 40
_CARD_BYTES_MAX = 128 * 1024
_DIRECTORIES = ("keys", "ca", "trust", "policy", "store", "log")


@dataclass(frozen=True)
class SitePaths:
    """Where everything of the site in `root` is."""

    root: Path

    @property
    def keys(self) -> Path:
        """Secret keys, and the site's TLS certificate."""
        return self.root / "keys"

    @property
    def tls_key(self) -> Path:
        """The TLS key, PEM."""
        return self.keys / "tls.key"

    @property
    def tls_certificate(self) -> Path:
        """The TLS certificate and its issuing CA, PEM, leaf first."""
        return self.keys / "tls.crt"

    @property
    def authority_key(self) -> Path:
        """The issuing CA's key, PEM."""
        return self.root / "ca" / "issuing.key"

    @property
    def authority_certificate(self) -> Path:
        """The issuing CA's certificate, PEM."""
        return self.root / "ca" / "issuing.crt"

    @property
    def next_authority(self) -> Path:
        """The issuing CA's next certificate, until a trust bundle names it."""
        return self.root / "ca" / "next.crt"

    @property
    def proposal(self) -> Path:
        """The pending change of the trust bundle, if there is one."""
        return self.root / "trust" / "proposal.json"

    @property
    def policy(self) -> Path:
        """The directory of policy files."""
        return self.root / "policy"

    @property
    def catalog(self) -> Path:
        """The catalog's database."""
        return self.root / CATALOG_NAME

    @property
    def store(self) -> Path:
        """The segments."""
        return self.root / "store"

    @property
    def log(self) -> Path:
        """The published log: checkpoint and tiles."""
        return self.root / "log"

    @property
    def restored(self) -> Path:
        """There while the site came out of a backup and its peers have not been asked."""
        return self.root / "restored.json"

    @property
    def card(self) -> Path:
        """What the site hands to the roots."""
        return self.root / CARD_NAME


def create_directory(paths: SitePaths, settings: GatewaySettings, policy: str, now: datetime) -> Authority:
    """Make the directories, keys, CA, certificate and first policy of a new site; `finish_directory` completes it. Blocks.

    Raises:
        CallerError: E-CONFIG if there is a site, or part of one, already, or anything else.
    """
    if (paths.root / FILE_NAME).exists() or paths.keys.exists():
        raise CallerError("E-CONFIG", f"{paths.root} holds a site already, or part of one", remedy="choose an empty directory")
    check_vacant(paths)
    for directory in (paths.root, *(paths.root / name for name in _DIRECTORIES)):
        make_directory(directory)
        directory.chmod(stat.S_IRWXU)
    create_keys(paths.keys)
    authority = Authority.create(settings.site, now)
    write_durable(paths.authority_key, encode_key(authority.key))
    write_durable(paths.authority_certificate, authority.pem)
    issue_own_certificate(paths, settings, authority, now)
    write_durable(paths.policy / "policy.yaml", policy.encode("utf-8"))
    return authority


def check_vacant(paths: SitePaths) -> None:
    """Raise `CallerError` E-CONFIG if the directory is no place for a new site: a file, or it holds something else. Blocks."""
    try:
        found = sorted(set(os.listdir(paths.root)) - _NOT_OURS_TO_MIND)  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise CallerError("E-CONFIG", f"{paths.root} is not a directory", remedy="name a directory, or a new one") from None
    except OSError as error:
        text = f"{paths.root} cannot be read: {(error.strerror or 'input/output error').lower()}"
        raise CallerError("E-CONFIG", text, remedy="name a directory that you may read and write") from None
    if found:
        names = ", ".join(ascii(name)[1:-1][:_NAME_CHARS_MAX] for name in found[:_NAMES_SHOWN_MAX])
        more = f" and {len(found) - _NAMES_SHOWN_MAX} more" if len(found) > _NAMES_SHOWN_MAX else ""
        raise CallerError(
            "E-CONFIG", f"{paths.root} holds other files: {names}{more}", remedy="choose an empty directory, or a new one"
        )


def finish_directory(paths: SitePaths, settings: GatewaySettings, authority: Authority, signing_key: VerifyingKey) -> SiteCard:
    """Write the site card and, last, the settings; the directory is a site from then on. Blocks."""
    card = SiteCard(
        name=settings.site,
        jurisdiction=settings.jurisdiction,
        operator=settings.operator,
        urls=(settings.url,),
        tls_ca=authority.pem.decode("ascii"),
        signing_key=signing_key,
        trust_domain=settings.trust_domain,
    )
    write_durable(paths.card, card.encode() + b"\n")
    write_durable(paths.root / FILE_NAME, encode_settings(settings).encode("utf-8"))
    return card


async def record_site(catalog: Catalog, keyring: FileKeyring, settings: GatewaySettings, now: datetime) -> None:
    """Write the first entry of the site's log, then its first KEM key with its statement."""
    fields: dict[str, JsonValue] = {
        "site": settings.site,
        "jurisdiction": settings.jurisdiction,
        "operator": settings.operator,
        "signing_key": keyring.signing.public.hex,
    }

    def record(transaction: Transaction) -> None:
        transaction.append(EntryType.SITE_CREATED, fields)

    await catalog.write(record)
    await rotate_kem(catalog, keyring, settings.site, now)


def load_authority(paths: SitePaths, credentials: Path | None = None) -> Authority:
    """Return the issuing CA; raise `CallerError` E-CONFIG naming what is missing, damaged or open to others. Blocks."""
    key_path = static_key_path("issuing.key", paths.root / "ca", credentials)
    key = read_private_file(key_path).encode("ascii")
    try:
        certificate = paths.authority_certificate.read_bytes()
    except OSError as error:
        raise CallerError("E-CONFIG", f"{paths.authority_certificate} cannot be read: {error.strerror}") from None
    return Authority.parse(certificate, key)


def propose_authority(paths: SitePaths, authority: Authority, now: datetime) -> SiteCard:
    """Write the CA's next certificate and a site card that has it; it is used once a trust bundle names it. Blocks.

    Raises:
        CallerError: E-CONFIG if the site card is missing or none.
    """
    pem = encode_chain(authority.renewed(now))
    try:
        card = parse_model(SiteCard, paths.card.read_bytes(), bytes_max=_CARD_BYTES_MAX)
    except (OSError, PeerError) as error:
        raise CallerError("E-CONFIG", f"{paths.card} is no site card: {error}", remedy="restore it from the backup") from None
    renewed = card.model_copy(update={"tls_ca": pem.decode("ascii")})
    write_durable(paths.next_authority, pem)
    write_durable(paths.card, renewed.encode() + b"\n")
    return renewed


def follow_authority(paths: SitePaths, authority: Authority, named: str) -> bool:
    """Put the CA's next certificate in the place of the present one if `named`, what the trust bundle says, is it. Blocks.

    Idempotent: the certificate is in its place before the proposed file goes, and `authority` follows whatever is in that place.
    """
    try:
        proposed = paths.next_authority.read_bytes()
    except FileNotFoundError:
        proposed = b""
    if proposed and proposed == named.encode("ascii"):
        write_durable(paths.authority_certificate, proposed)
        paths.next_authority.unlink()
        sync_directory(paths.next_authority.parent)
    current = x509.load_pem_x509_certificate(paths.authority_certificate.read_bytes())
    if current == authority.certificate:
        return False
    authority.follow(current)
    return True


def issue_own_certificate(paths: SitePaths, settings: GatewaySettings, authority: Authority, now: datetime) -> None:
    """Write a new TLS key and certificate of the site. Blocks.

    The two files are replaced one after the other; a crash between leaves a pair that does not match, which
    `renew_own_certificate` finds at the next start.
    """
    key = new_key()
    certificate = authority.issue_gateway(settings.identity, key.public_key(), settings.certificate_hosts, now)
    write_durable(paths.tls_key, encode_key(key))
    write_durable(paths.tls_certificate, encode_chain(certificate, authority.certificate))


def renew_own_certificate(paths: SitePaths, settings: GatewaySettings, authority: Authority, now: datetime) -> bool:
    """Issue a new certificate if the present one is due, damaged, of another CA or lacks a host; tell whether it did. Blocks.

    Called at start and by maintenance; the server then loads the pair again.
    """
    if _is_current(paths, settings, authority, now):
        return False
    issue_own_certificate(paths, settings, authority, now)
    return True


@contextmanager
def hold_site(paths: SitePaths) -> Iterator[None]:
    """Hold the site for the one process that may serve it; it is given up with the process, however that ends.

    Raises:
        Unavailable: E-BUSY if another process serves the site.
    """
    descriptor = os.open(paths.root / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Unavailable("E-BUSY", f"another process serves the site in {paths.root}", remedy="stop it first") from None
    try:
        yield
    finally:
        os.close(descriptor)


def mark_restored(paths: SitePaths, manifest: bytes) -> None:
    """Note that the site came out of a backup: it signs nothing before its peers were asked. Blocks."""
    write_durable(paths.restored, manifest)


def is_restored(paths: SitePaths) -> bool:
    """Tell whether the site came out of a backup and its peers have not been asked since."""
    return paths.restored.exists()


def forget_restored(paths: SitePaths) -> None:
    """Remove the note: the peers were asked. Blocks."""
    paths.restored.unlink(missing_ok=True)
    sync_directory(paths.root)


def first_policy() -> str:
    """Return the policy of a new site: within the site only."""
    return files("gateway").joinpath("data/first-policy.yaml").read_text("utf-8")


def _is_current(paths: SitePaths, settings: GatewaySettings, authority: Authority, now: datetime) -> bool:
    try:
        leaf, issuer = x509.load_pem_x509_certificates(paths.tls_certificate.read_bytes())
        key = parse_key(read_private_file(paths.tls_key).encode("ascii"))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, CallerError, x509.ExtensionNotFound):
        return False
    hosts = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    return (
        issuer == authority.certificate
        and leaf.public_key() == key.public_key()
        and hosts == set(settings.certificate_hosts)
        and names.get_values_for_type(x509.UniformResourceIdentifier) == [settings.identity]
        and not renewal_due(leaf, now)
    )
