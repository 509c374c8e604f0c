"""Writes a backup of a site that may be serving meanwhile.

The catalog says what the site is, so everything else is made to fit one snapshot of it: the log as of its head, the segments that
it knows. Segments are never written in place, so a hard link to one is a copy; on another file system it is copied.

Rules:      1. nothing of the site is changed  2. the manifest is written last, and after it everything is read again
            3. keys only when asked for, never readable by others
"""

import errno
import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from carnet.errors import CallerError, IntegrityError, Unavailable
from carnet.identifiers import SegmentId
from carnet.tiles import Tile, tiles_changed
from carnet.timestamps import format_time
from gateway.backing_up.contents import MANIFEST, STORE, Manifest, digest_of, segments_in, verify_backup
from gateway.catalog.engine import connect, translate_database_error
from gateway.catalog.log_rows import LogRows, SignedHead
from gateway.catalog.row_seal import keyless
from gateway.proposals import read_card
from gateway.settings import FILE_NAME, GatewaySettings
from gateway.sitedir import CARD_NAME, CATALOG_NAME, SitePaths
from gateway.storage.durable import make_directory, sync_directory, sync_file, write_durable
from gateway.translog.files import LogFiles
from gateway.translog.verify import verify_directory

_PUBLISH_S: Final = 10.0
"""How long a head that is signed may take until its tiles are published."""
_POLL_S: Final = 0.05
_TRIES: Final = 5


def write_backup(settings: GatewaySettings, out: Path, *, with_keys: bool, now: datetime) -> Manifest:
    """Write a verified backup of the site into the new directory `out`. Blocks for as long as the site is large.

    Steps: (1) link segments; (2) take the catalog; (3) make the segments those of the catalog; (4) the log as of the catalog's
    head; (5) settings, card, policy, trust, CA certificate, keys if asked for; (6) the manifest; (7) read everything again.

    Raises:
        CallerError: E-CONFIG if `out` exists and is not empty. IntegrityError: E-BACKUP, E-LOG. Unavailable: E-BUSY.
    """
    paths = SitePaths(settings.data_dir)
    if out.exists() and any(out.iterdir()):
        raise CallerError("E-CONFIG", f"{out} is not empty", remedy="name a new directory for each backup")
    make_directory(out)
    out.chmod(0o700)
    for shard in paths.store.iterdir() if paths.store.is_dir() else ():
        if shard.is_dir() and shard.name != "incoming":
            _take_shard(shard, out / STORE / shard.name)  # (1)
    _take_catalog(paths, out)  # (2), (3)
    head = _head_of(out / CATALOG_NAME)
    _take_log(paths, out, head)  # (4)
    _take_files(paths, out, with_keys=with_keys)  # (5)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    manifest = Manifest(
        site=settings.site,
        at=format_time(now),
        log_size=head.size,
        log_root=head.root.hex(),
        with_keys=with_keys,
        segments=sum(name.startswith(f"{STORE}/") for name in names),
        files={name: digest_of(out / name) for name in names if not name.startswith(f"{STORE}/")},
    )
    write_durable(out / MANIFEST, manifest.model_dump_json(indent=1).encode())  # (6)
    verify_backup(out, manifest)  # (7)
    verify_directory(out / "log", origin=settings.log_origin, key=read_card(out / CARD_NAME).signing_key)
    return manifest


def _take_shard(shard: Path, target: Path) -> None:
    make_directory(target)
    for entry in os.scandir(shard):
        _link(Path(entry.path), target / entry.name)
    sync_directory(target)


def _take_catalog(paths: SitePaths, out: Path) -> None:
    """Take the catalog again if a segment went between its snapshot and its link; that is rare."""
    for _ in range(_TRIES):
        _snapshot(paths.catalog, out / CATALOG_NAME)
        known = set(segments_in(out / CATALOG_NAME))
        if all(_have(paths, out, segment) for segment in known):
            for path in (out / STORE).rglob("*"):
                if path.is_file() and path.name not in known:
                    path.unlink()
            return
    raise Unavailable("E-BUSY", "segments are being deleted faster than they can be backed up", retry_after_s=30)


def _have(paths: SitePaths, out: Path, segment: SegmentId) -> bool:
    target = out / STORE / segment[3:5] / segment
    if not target.exists():
        make_directory(target.parent)
        _link(paths.store / segment[3:5] / segment, target)
    return target.exists()


def _snapshot(source: Path, target: Path) -> None:
    """Copy the catalog as of one moment, by SQLite's backup, into one file without a journal."""
    target.unlink(missing_ok=True)
    target.touch(mode=0o600)
    try:
        with closing(connect(source, writer=False)) as reader, closing(sqlite3.connect(target)) as writer:
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise translate_database_error(error) from error
    _sync(target)


def _head_of(catalog: Path) -> SignedHead:
    with closing(connect(catalog, writer=False)) as connection:
        head = LogRows(connection, datetime.now(UTC), keyless()).log_head()
    if head is None:
        raise CallerError("E-CONFIG", "the site was never served: there is nothing to back up", remedy="serve it once")
    return head


def _take_log(paths: SitePaths, out: Path, head: SignedHead) -> None:
    """Write the published log as of `head`; a head signed a moment ago is waited for."""
    live, copy = LogFiles(paths.log), LogFiles(out / "log")
    deadline = time.monotonic() + _PUBLISH_S
    for tile in tiles_changed(0, head.size):
        copy.publish({tile: _tile(live, head, tile, deadline)})
    copy.publish_checkpoint(head.note.encode())


def _tile(live: LogFiles, head: SignedHead, tile: Tile, deadline: float) -> bytes:
    while True:
        staged = live.staged(head.size, head.root) or {}
        try:
            return staged[tile] if tile in staged else live.tile(tile)
        except IntegrityError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _take_files(paths: SitePaths, out: Path, *, with_keys: bool) -> None:
    singles = [paths.root / FILE_NAME, paths.card, paths.authority_certificate]
    groups = [paths.policy, paths.proposal.parent]
    if with_keys:
        singles.append(paths.authority_key)
        groups.append(paths.keys)
    files = [*singles, *(path for group in groups if group.is_dir() for path in group.iterdir() if path.is_file())]
    for path in files:
        if path.exists() and not path.name.startswith("."):
            target = out / path.relative_to(paths.root)
            make_directory(target.parent)
            target.parent.chmod(0o700)
            write_durable(target, path.read_bytes())


def _link(source: Path, target: Path) -> None:
    """Link, or copy where that cannot be; a segment that is gone meanwhile is passed over."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        return
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}:
            raise
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError:
            return
        _sync(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_file(descriptor, path.name)
    finally:
        os.close(descriptor)
