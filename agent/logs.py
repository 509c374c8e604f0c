"""Reads a site's log, from its gateway or from a directory, and checks it against the key that the trust bundle names.

The newest checkpoint that verified is kept with the identity, so the next check also proves that the log only grew since.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.identity import load_identity, save_files
from agent.session import now, open_session
from agent.settings import load_settings
from carnet.checkpoint import Checkpoint, log_origin, open_checkpoint
from carnet.entries import LogEntry, parse_entry
from carnet.envelope import parse_envelope
from carnet.errors import CallerError, IntegrityError, NotFound, PeerError
from carnet.flow.link import OnWait
from carnet.identifiers import Digest, SiteName
from carnet.keys import VerifyingKey
from carnet.limits import LOG_ENTRY_BYTES_MAX, NOTE_BYTES_MAX, TRUST_BUNDLE_BYTES_MAX
from carnet.logcheck import LogReport, verify_log
from carnet.tiles import TILE_WIDTH, decode_entries, parse_tile_path, tile_at
from carnet.trust import TrustBundle, TrustedState

_FILE_BYTES_MAX = max(NOTE_BYTES_MAX, TILE_WIDTH * (LOG_ENTRY_BYTES_MAX + 2))


@dataclass(frozen=True)
class LogSource:
    """A log to check: how its files are read, who must have signed it, and where the last good checkpoint is kept."""

    origin: str
    key: VerifyingKey
    read: Callable[[str], bytes | None]
    kept: Path | None


@asynccontextmanager
async def open_log(
    config: Path | None,
    *,
    directory: Path | None,
    site: SiteName | None,
    trust: Path | None,
    root_fingerprint: Digest | None,
    on_wait: OnWait | None = None,
) -> AsyncIterator[LogSource]:
    """Yield the log in `directory`, or the home site's own log from its gateway.

    Raises:
        CallerError: E-SOURCE if `directory` is no log, E-USAGE for `--trust` without what it needs. NotFound: E-SITE-UNKNOWN.
    """
    if directory is not None:
        bundle, home, kept = _bundle(config, trust, root_fingerprint)
        wanted = site or home
        if wanted is None:
            raise CallerError("E-USAGE", "name the site whose log this is with --site")
        if not (directory / "checkpoint").is_file():
            raise CallerError(
                "E-SOURCE", f"{directory} holds no log: there is no checkpoint", remedy="name the log directory of a site"
            )
        yield _source(bundle, wanted, lambda path: _read_file(directory, path), kept)
        return
    if trust is not None:
        raise CallerError("E-USAGE", "--trust is for a copy of a log", remedy="name the log's directory too")
    settings = load_settings(config)
    async with open_session(settings, connections=2, on_wait=on_wait) as session:
        if site is not None and site != session.site:
            raise CallerError("E-USAGE", f"the log of {site} is not at {session.site}", remedy="name a copy of its log directory")
        loop = asyncio.get_running_loop()

        async def fetch(path: str) -> bytes | None:
            try:
                return await session.client.log_file(path)
            except NotFound:
                return None

        def read(path: str) -> bytes | None:
            return asyncio.run_coroutine_threadsafe(fetch(path), loop).result()

        yield _source(session.bundle, session.site, read, settings.identity_dir)


def check_log(source: LogSource, since: bytes | None) -> tuple[LogReport, int | None]:
    """Return the report on a log that is whole, and the size of the earlier checkpoint it was compared with, if any.

    `since` is a signed checkpoint the caller kept; without it the one kept with the identity counts. Blocks.

    Raises:
        IntegrityError: E-LOG naming the entry or tile; E-SIGNATURE if `since` is not of this log.
    """
    name = f"checkpoint-{source.origin.replace('/', '_')}"
    kept = source.kept / name if source.kept is not None else None
    note = since if since is not None else (kept.read_bytes() if kept is not None and kept.is_file() else None)
    previous: Checkpoint | None = None
    if note is not None:
        previous = _kept_checkpoint(note, source)
    current = source.read("checkpoint")
    # One reading of the checkpoint for the whole check: what is kept is what was verified.
    report = verify_log(
        lambda path: current if path == "checkpoint" else source.read(path),
        origin=source.origin,
        key=source.key,
        previous=previous,
    )
    if (
        kept is not None
        and current is not None
        and open_checkpoint(current, origin=source.origin, key=source.key).size >= report.size
    ):
        save_files(kept.parent, {name: current})
    return report, None if previous is None else previous.size


def _kept_checkpoint(note: bytes, source: LogSource) -> Checkpoint:
    try:
        return open_checkpoint(note[:NOTE_BYTES_MAX], origin=source.origin, key=source.key)
    except PeerError as error:
        raise CallerError(
            "E-SOURCE",
            f"what was kept earlier is no checkpoint: {error.problem}",
            remedy="name a copy of a log's `checkpoint` file",
        ) from None


def newest_entries(source: LogSource, limit: int) -> list[tuple[int, LogEntry]]:
    """Return the newest `limit` entries with their indexes, oldest first; the checkpoint's signature is checked. Blocks."""
    note = source.read("checkpoint")
    if note is None:
        raise IntegrityError("E-LOG", f"log {source.origin} has no checkpoint")
    size = open_checkpoint(note, origin=source.origin, key=source.key).size
    found: list[tuple[int, LogEntry]] = []
    for index in range(max(0, size - limit) // TILE_WIDTH, (size + TILE_WIDTH - 1) // TILE_WIDTH):
        tile = tile_at(-1, index, size)
        data = source.read(tile.path())
        if data is None:
            tile = tile.full()
            data = source.read(tile.path())
        if data is None:
            raise IntegrityError("E-LOG", f"log {source.origin}: {tile.path()} is missing")
        first = index * TILE_WIDTH
        found += [(first + offset, parse_entry(entry)) for offset, entry in enumerate(decode_entries(data, tile.width))]
    return [(index, entry) for index, entry in found if size - limit <= index < size]


def _source(bundle: TrustBundle, site: SiteName, read: Callable[[str], bytes | None], kept: Path | None) -> LogSource:
    entry = bundle.site(site)
    return LogSource(log_origin(bundle.trust_domain, site), entry.signing_key, read, kept)


def _bundle(
    config: Path | None, trust: Path | None, root_fingerprint: Digest | None
) -> tuple[TrustBundle, SiteName | None, Path | None]:
    """Return the bundle to take keys from, the home site if there is one, and where checkpoints are kept."""
    if trust is None:
        settings = load_settings(config)
        identity = load_identity(settings.identity_dir, root_fingerprint=settings.root_fingerprint)
        return identity.trust.current, identity.id.site, settings.identity_dir
    if root_fingerprint is None:
        raise CallerError("E-USAGE", "--trust needs --root-fingerprint: a bundle is trusted by its roots, not by its file")
    try:
        with trust.open("rb") as file:
            data = file.read(TRUST_BUNDLE_BYTES_MAX + 1)
    except OSError as error:
        raise CallerError("E-SOURCE", f"{trust} cannot be read: {error.strerror}") from None
    try:
        envelope = parse_envelope(data, bytes_max=TRUST_BUNDLE_BYTES_MAX)
    except PeerError as error:
        raise CallerError(
            "E-SOURCE", f"{trust} is not a trust bundle: {error.problem}", remedy="name a signed trust bundle"
        ) from None
    return TrustedState(root_fingerprint).accept(envelope, now()).current, None, None


def _read_file(directory: Path, path: str) -> bytes | None:
    """Return a file of the log; only names that the log format has are opened."""
    if path != "checkpoint":
        parse_tile_path(path)
    try:
        with (directory / path).open("rb") as file:
            return file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CallerError("E-SOURCE", f"{directory / path} cannot be read: {error.strerror}") from None
