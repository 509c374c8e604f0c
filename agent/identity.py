"""The identity directory: where an enrolled agent keeps its keys, certificate, statement and trust bundle.

Only its owner may read it, and it is refused otherwise. Every file is replaced by a rename, so commands that share the directory
see old or new, never half. What the files hold is `carnet.identity`'s affair.

Rules:      1. directory 0700, files 0600, checked at every load  2. a change is durable before it is used
            3. the trust bundle is advanced by `TrustedState`, never replaced by an older one
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from carnet.envelope import Envelope
from carnet.errors import CallerError, IntegrityError
from carnet.identifiers import Digest
from carnet.identity import FILE_BYTES_MAX, AgentIdentity

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def load_identity(directory: Path, *, root_fingerprint: Digest | None = None) -> AgentIdentity:
    """Return the identity in `directory`. Blocks on the disk.

    Raises:
        CallerError: E-NOT-ENROLLED if there is none or a file does not fit, E-CONFIG if others than the owner can read one.
        IntegrityError: E-TRUST if the pieces do not belong together, or the pinned roots are not `root_fingerprint`.
    """
    if not directory.is_dir():
        raise CallerError("E-NOT-ENROLLED", f"no identity in {directory}")
    check_private(directory)
    identity = AgentIdentity.parse({name: _read(directory / name, bytes_max) for name, bytes_max in FILE_BYTES_MAX.items()})
    if root_fingerprint is not None and identity.trust.pinned != root_fingerprint:
        raise IntegrityError("E-TRUST", f"this identity trusts roots {identity.trust.pinned}, configured are {root_fingerprint}")
    return identity


def save_identity(directory: Path, identity: AgentIdentity) -> None:
    """Write every file of the identity, durably; the directory is made if it is missing. Blocks on the disk.

    `identity.json` goes last: a directory without it is not an identity, so an interrupted first write is seen as none.
    """
    directory.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    check_private(directory)
    save_files(directory, identity.files())


def save_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Replace these files in `directory` one after the other, each whole and durable."""
    for name, data in files.items():
        _write(directory / name, data)


def advance_trust(directory: Path, identity: AgentIdentity, bundle: Envelope, now: datetime) -> AgentIdentity:
    """Return the identity with a newer trust bundle, kept in `directory` first; the same bundle changes nothing.

    Raises:
        IntegrityError: E-SIGNATURE, E-TRUST (rollback, other roots). PeerError: E-FORMAT. Held: E-TRUST-EXPIRED.
    """
    advanced = identity.with_bundle(bundle, now)
    if advanced is not identity:
        save_files(directory, {"trust.dsse": advanced.files()["trust.dsse"]})
    return advanced


def check_private(path: Path) -> None:
    """Return if only the owner can read `path`; raise `CallerError` E-CONFIG naming it and the chmod otherwise."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        wanted = "700" if path.is_dir() else "600"
        raise CallerError("E-CONFIG", f"{path} is open to others (mode {mode:04o})", remedy=f"chmod {wanted} {path}")


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        check_private(path)
        with path.open("rb") as file:
            return file.read(bytes_max + 1)  # one more than allowed shows that it is too long
    except FileNotFoundError:
        raise CallerError("E-NOT-ENROLLED", f"identity file {path} is missing") from None
    except OSError as error:
        raise CallerError("E-CONFIG", f"{path} cannot be read: {error.strerror}") from None


def write_new_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read; raise `CallerError` E-SINK if there is one already or it cannot be."""
    if path.exists():
        raise CallerError("E-SINK", f"{path} exists already", remedy="choose another name; a key is never overwritten")
    try:
        _write(path, data)
    except OSError as error:
        raise CallerError("E-SINK", f"{path} cannot be written: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    """Put `data` under `path`: temporary, fsync, rename, fsync of the directory. Two writers do not meet in one temporary."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, stat.S_IRUSR | stat.S_IWUSR)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
