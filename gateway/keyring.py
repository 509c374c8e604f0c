"""The site's secret keys in files: what signs, what unwraps, what seals at rest.

A key is one line in a file of its own. Files that anyone but the owner can read are refused, since a key that was readable must
be taken as known. Static keys may come from a credentials directory; KEM keys, which rotate, are always in the site directory.

Rules:      1. a key file is 0600 or stricter, its directory 0700  2. a KEM key is durable before its statement exists
            3. a KEM number is never used twice  4. no repr or error shows a key  5. a KEM key that has ended is destroyed
            when nothing that policy may still hold can be wrapped to it (`gateway.kem_ending`)
Layout:     signing.key, at-rest.key, kem-<number>.key; sealed = nonce (12) || AES-256-GCM ciphertext and tag, AAD = context
Spec:       docs/operations.md section "Keys"; DESIGN section 5
"""

import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from carnet.encoding import JsonValue, decode_base64, encode_base64
from carnet.entries import EntryType
from carnet.errors import CallerError, IntegrityError, NotFound, PeerError
from carnet.identifiers import SiteName
from carnet.keys import KemPrivateKey, SigningKey, encode_private_key, parse_private_key
from carnet.suites import KEY_BYTES, NONCE_BYTES, SUITE_1, TAG_BYTES, derive_key
from carnet.timestamps import format_time, parse_time
from carnet.trust import KemStatement
from gateway.ports import Catalog, Transaction
from gateway.storage.durable import make_directory, sync_directory, sync_file, write_durable

KEM_LIFE: Final = timedelta(days=30)
"""How long a KEM statement is valid; the key is kept longer, for what was wrapped to it."""
_AT_REST_PREFIX = "carnet-at-rest-key-1:"
_KEY_FILE_BYTES_MAX = 4_096
Key = TypeVar("Key", SigningKey, KemPrivateKey)
_KEM_FILE = re.compile(r"kem-([1-9][0-9]{0,8})\.key", re.ASCII)


def read_private_file(path: Path) -> str:
    """Return the text of a key file.

    Raises:
        CallerError: E-CONFIG naming the file if it is missing, too long, no text, or readable by others than its owner.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CallerError("E-CONFIG", f"key file {path} can be read by others (mode {mode:04o})", remedy=f"chmod 600 {path}")
        with path.open("rb") as file:
            data = file.read(_KEY_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise CallerError("E-CONFIG", f"no key file {path}", remedy="restore it from the backup, or create a new site") from None
    except OSError as error:
        raise CallerError("E-CONFIG", f"key file {path} cannot be read: {error.strerror}") from None
    if len(data) > _KEY_FILE_BYTES_MAX or not data.isascii():
        raise CallerError("E-CONFIG", f"{path} is not a key file")
    return data.decode("ascii")


def create_keys(directory: Path) -> None:
    """Make the key directory (0700) with a new signing key and a new at-rest key; existing keys are never replaced.

    Raises:
        CallerError: E-CONFIG if there is a key already.
    """
    for name in ("signing.key", "at-rest.key"):
        if (directory / name).exists():
            raise CallerError("E-CONFIG", f"{directory / name} exists already", remedy="choose another directory for a new site")
    make_directory(directory)
    directory.chmod(stat.S_IRWXU)
    write_durable(directory / "signing.key", encode_private_key(SigningKey(secrets.token_bytes(KEY_BYTES))).encode("ascii"))
    at_rest = f"{_AT_REST_PREFIX}{encode_base64(secrets.token_bytes(KEY_BYTES))}\n"
    write_durable(directory / "at-rest.key", at_rest.encode("ascii"))


def load_row_key(directory: Path, credentials: Path | None) -> bytes:
    """Return the key that seals rows of the catalog, derived from the at-rest key; raises as `FileKeyring.load`. Blocks."""
    at_rest = _parse_at_rest(static_key_path("at-rest.key", directory, credentials))
    return derive_key(SUITE_1, at_rest, "catalog rows")


class FileKeyring:
    """The port `Keyring` over key files. Loaded whole at start; KEM keys come and go, also by a command beside the server."""

    def __init__(self, directory: Path, signing: SigningKey, at_rest: bytes, kem: dict[int, KemPrivateKey]) -> None:
        """Hold what `load` read."""
        self._directory = directory
        self._signing = signing
        self._kem = kem
        self._sealer = AESGCM(derive_key(SUITE_1, at_rest, "at-rest"))

    @classmethod
    def load(cls, directory: Path, *, credentials: Path | None = None) -> Self:
        """Return the keyring in `directory`; static keys are taken from `credentials` if they are there. Blocks.

        Raises:
            CallerError: E-CONFIG naming the first file that is missing, damaged, or readable by others.
        """
        _check_directory(directory)
        signing = _parse(SigningKey, static_key_path("signing.key", directory, credentials))
        at_rest = _parse_at_rest(static_key_path("at-rest.key", directory, credentials))
        found = ((_KEM_FILE.fullmatch(path.name), path) for path in directory.iterdir())
        kem = {int(match[1]): _parse(KemPrivateKey, path) for match, path in found if match}
        return cls(directory, signing, at_rest, dict(sorted(kem.items())))

    @property
    def signing(self) -> SigningKey:
        """The site's signing key."""
        return self._signing

    def kem(self, number: int) -> KemPrivateKey:
        """Return the KEM key with this number; raise `NotFound` E-KEY-RELEASE if it is not here (any more)."""
        path = self._kem_path(number)
        if number not in self._kem and path.exists():
            self._kem[number] = _parse(KemPrivateKey, path)  # a command beside the server made it
        if number not in self._kem:
            raise NotFound("E-KEY-RELEASE", f"no KEM key {number} at this site")
        return self._kem[number]

    def kem_numbers(self) -> Sequence[int]:
        """Return the numbers of the KEM keys held, ascending. Reads the directory."""
        found = (_KEM_FILE.fullmatch(path.name) for path in self._directory.iterdir())
        return tuple(sorted({int(match[1]) for match in found if match}))

    def kem_made_at(self, number: int) -> datetime | None:
        """Return when the file of a KEM key was written, by this machine's clock then, or None if there is none."""
        try:
            return datetime.fromtimestamp(self._kem_path(number).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def seal(self, secret: bytes, context: bytes) -> bytes:
        """Return `secret` sealed under the at-rest key, bound to `context`."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._sealer.encrypt(nonce, secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Return the secret; raise `IntegrityError` E-SEGMENT-CORRUPT if sealed bytes or context are not right."""
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise IntegrityError("E-SEGMENT-CORRUPT", f"a secret sealed at rest has {len(sealed)} bytes, too few")
        try:
            return self._sealer.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except InvalidTag:
            raise IntegrityError("E-SEGMENT-CORRUPT", "a secret sealed at rest does not open under this site's key") from None

    def add_kem(self, at_least: int = 1) -> int:
        """Make a new KEM key, durable when this returns, and return its number, `at_least` or above all held. Blocks."""
        number = max(at_least, max(self.kem_numbers(), default=0) + 1)
        key = KemPrivateKey(secrets.token_bytes(KEY_BYTES))
        made = self._directory / f"new-{secrets.token_hex(8)}.key"
        write_durable(made, encode_private_key(key).encode("ascii"))
        while not _link(made, self._kem_path(number)):  # a command and the server may choose a number at the same time
            number += 1
        made.unlink()
        sync_directory(self._directory)
        self._kem[number] = key
        return number

    def destroy_kem(self, number: int) -> None:
        """Overwrite and remove a KEM key; when this returns it is gone from the directory. Again is no error. Blocks."""
        self._kem.pop(number, None)
        path = self._kem_path(number)
        if not path.exists():
            return
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            sync_file(file.fileno(), path.name)
        path.unlink()
        sync_directory(self._directory)

    def _kem_path(self, number: int) -> Path:
        return self._directory / f"kem-{number}.key"

    def __repr__(self) -> str:
        return f"FileKeyring({self._signing.public.keyid}, kem={sorted(self._kem)})"


@dataclass(frozen=True)
class IssuedKem:
    """A KEM statement that was just made, and the index of its log entry."""

    statement: KemStatement
    log_index: int


async def rotate_kem(catalog: Catalog, keyring: FileKeyring, site: SiteName, now: datetime) -> IssuedKem:
    """Make a KEM key with a statement of 30 days, log it and keep it; older keys stay for what was wrapped to them.

    Steps: (1) the key file is durable; (2) statement and log entry are one transaction. A crash between leaves a key that no
    statement names, and the next number is higher.
    """
    known = await catalog.read(lambda transaction: transaction.site_documents(f"kem/{site}/"))
    number = keyring.add_kem(max((int(name.rpartition("/")[2]) for name in known), default=0) + 1)  # (1)
    statement = KemStatement(
        site=site,
        suite=SUITE_1,
        number=number,
        key=keyring.kem(number).public,
        not_before=format_time(now - timedelta(minutes=5)),
        not_after=format_time(now + KEM_LIFE),
    )
    envelope = statement.sign(keyring.signing).encode()

    def record(transaction: Transaction) -> int:
        transaction.put_site_document(f"kem/{site}/{number}", envelope)
        fields: dict[str, JsonValue] = {
            "site": site,
            "number": number,
            "key": statement.key.digest,
            "statement": statement.digest,
        }
        return transaction.append(EntryType.KEM_KEY_ISSUED, fields)

    return IssuedKem(statement, await catalog.write(record))  # (2)


def kem_rotation_due(statement: KemStatement | None, now: datetime) -> bool:
    """Tell whether the newest own statement has lived two thirds of its life, or there is none."""
    if statement is None:
        return True
    start, end = parse_time(statement.not_before), parse_time(statement.not_after)
    return now >= start + (end - start) * 2 / 3


def _link(made: Path, path: Path) -> bool:
    """Give a file its name; False if that name is taken."""
    try:
        path.hardlink_to(made)
    except FileExistsError:
        return False
    return True


def static_key_path(name: str, directory: Path, credentials: Path | None) -> Path:
    """Return where the key file `name` is: in the credentials directory if it is there, else in `directory`."""
    if credentials is not None and (credentials / name).exists():
        return credentials / name
    return directory / name


def _check_directory(directory: Path) -> None:
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError:
        raise CallerError(
            "E-CONFIG", f"no key directory {directory}", remedy="create a site with `carnet-gateway init`"
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CallerError("E-CONFIG", f"key directory {directory} is open to others", remedy=f"chmod 700 {directory}")


def _parse(kind: type[Key], path: Path) -> Key:
    text = read_private_file(path)
    try:
        key = parse_private_key(text)
    except PeerError:
        key = None
    if not isinstance(key, kind):
        raise CallerError("E-CONFIG", f"{path} holds no {kind.__name__}", remedy="restore it from the backup")
    return key


def _parse_at_rest(path: Path) -> bytes:
    text = read_private_file(path)
    try:
        key = decode_base64(text.removeprefix(_AT_REST_PREFIX).removesuffix("\n")) if text.startswith(_AT_REST_PREFIX) else b""
    except PeerError:
        key = b""
    if len(key) != KEY_BYTES:
        raise CallerError("E-CONFIG", f"{path} holds no at-rest key", remedy="restore it from the backup")
    return key


def read_signing_key(path: Path, made_by: str) -> SigningKey:
    """Return the signing key in a file that the command `made_by` wrote.

    Raises:
        CallerError: E-CONFIG if there is no such file, it holds no signing key, or others may read it.
    """
    if not path.exists():
        raise CallerError("E-CONFIG", f"no key file {path}", remedy=f"name the file that `{made_by}` wrote, with --key")
    try:
        key = parse_private_key(read_private_file(path))
    except PeerError:
        key = None
    if not isinstance(key, SigningKey):
        raise CallerError("E-CONFIG", f"{path} holds no signing key", remedy=f"name the file that `{made_by}` wrote")
    return key
