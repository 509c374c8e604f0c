"""What a backup holds: every file by its digest, in a manifest that is written last.

A directory without a manifest is no backup. Segments are named by their own digest, so the manifest only counts them; which ones
belong is in the catalog, whose digest is here.

Rules:      1. a file that the manifest does not name is as wrong as one that is missing  2. digests are taken from the disk
Layout:     manifest.json | gateway.toml site-card.json policy/ trust/ ca/ catalog.sqlite log/ store/<shard>/<segment> [keys/]
Spec:       docs/operations.md section "Backup and restore"
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from carnet.errors import IntegrityError
from carnet.identifiers import SegmentId
from carnet.suites import SUITE_1, segment_id
from gateway.catalog.engine import connect, translate_database_error

MANIFEST: Final = "manifest.json"
STORE: Final = "store"
_MANIFEST_BYTES_MAX = 64 << 20
_READ_BYTES = 1 << 20


class Manifest(BaseModel):
    """The list of a backup's files, and what the site was when it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    v: Literal[1] = 1
    site: str
    at: str
    log_size: Annotated[int, Field(ge=0)]
    log_root: str
    with_keys: bool
    segments: Annotated[int, Field(ge=0)]
    files: dict[str, str]
    """SHA-256 in hex of every file but segments, by its path."""


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the backup in `directory`; raise `IntegrityError` E-BACKUP if there is none that can be read."""
    try:
        with (directory / MANIFEST).open("rb") as file:
            return Manifest.model_validate_json(file.read(_MANIFEST_BYTES_MAX))
    except (OSError, ValidationError) as error:
        raise IntegrityError("E-BACKUP", f"{directory} holds no whole backup: {type(error).__name__} at {MANIFEST}") from None


def verify_backup(directory: Path, manifest: Manifest) -> None:
    """Return if the directory holds exactly what the manifest and the catalog in it name, bit for bit. Reads everything.

    Raises:
        IntegrityError: E-BACKUP naming the first file or segment that is missing, changed, or not named.
    """
    found = {path.relative_to(directory).as_posix(): path for path in _files_in(directory)}
    found.pop(MANIFEST, None)
    segments = {name: path for name, path in found.items() if name.startswith(f"{STORE}/")}
    others = {name: path for name, path in found.items() if name not in segments}
    for name in sorted(manifest.files.keys() ^ others.keys()):
        raise IntegrityError("E-BACKUP", f"{name} is {'missing' if name in manifest.files else 'not named by the manifest'}")
    for name, path in others.items():
        if digest_of(path) != manifest.files[name]:
            raise IntegrityError("E-BACKUP", f"{name} is not what was backed up")
    known = {f"{STORE}/{segment[3:5]}/{segment}": segment for segment in segments_in(directory / "catalog.sqlite")}
    for name in sorted(known.keys() ^ segments.keys()):
        raise IntegrityError("E-BACKUP", f"{name} is {'missing' if name in known else 'not known to the catalog'}")
    for name, segment in known.items():
        if segment_id(SUITE_1, segments[name].read_bytes()) != segment:
            raise IntegrityError("E-BACKUP", f"{name} does not have its own digest")


def segments_in(catalog: Path) -> list[SegmentId]:
    """Return the segments that a catalog file knows; raise `InternalError` E-DATABASE or E-DISK if it cannot be read."""
    connection = connect(catalog, writer=False)
    try:
        return [SegmentId.from_binary(row["id"]) for row in connection.execute("SELECT id FROM segments ORDER BY id")]
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    finally:
        connection.close()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _files_in(directory: Path) -> Iterator[Path]:
    for path in directory.rglob("*"):
        if path.is_symlink():
            raise IntegrityError("E-BACKUP", f"{path.name} is a symbolic link; a backup has none")
        if path.is_file():
            yield path
