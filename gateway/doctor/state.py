"""What the catalog, the log and the store tell: whether they are whole, agree with each other, and what waits in them."""

import secrets
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Final

from carnet.checkpoint import Checkpoint, open_checkpoint
from carnet.errors import CallerError, CarnetError
from carnet.identifiers import SegmentId, TransferId
from carnet.merkle import tree_root
from carnet.suites import SUITE_1
from carnet.tiles import read_nodes
from carnet.timestamps import format_time
from carnet.trust import TrustBundle
from gateway.catalog.migrate import require_own_rows
from gateway.catalog.wholeness import damage_of
from gateway.doctor.accounts import examine_ledger
from gateway.doctor.asked import examine_asked
from gateway.doctor.findings import Finding, fail, failed, ok, warn
from gateway.doctor.obliged import examine_copies, examine_duties
from gateway.doctor.rights import examine_rights
from gateway.endorsing import lacking
from gateway.expiries import expiries
from gateway.offline import OfflineSite, open_store, row_seal
from gateway.policies import PolicyBook
from gateway.ports import Transaction
from gateway.translog.files import LogFiles
from gateway.translog.verify import verify_directory

_SEGMENTS_READ: Final = 32
_KEYS_OPENED: Final = 8
_LOG_READ_MAX: Final = 100_000
"""Entries up to which the whole log is verified; of a longer one, the head."""
_DELIVERIES_SHOWN: Final = 20
_ATTEMPTS_MANY: Final = 10
_LATE: Final = timedelta(minutes=5)
_DAY = timedelta(days=1)
_SOON: Final = {"tls-certificate": 7 * _DAY, "kem-key": 7 * _DAY, "trust-bundle": 14 * _DAY, "issuing-ca": 60 * _DAY}
"""How long before its end each thing should have been renewed."""
_RENEWED_BY: Final = {
    "tls-certificate": "carnet-gateway serve DIR, which renews it; its log says what keeps it from that",
    "kem-key": "carnet-gateway serve DIR, which renews it; its log says what keeps it from that",
    "issuing-ca": "carnet-gateway backup DIR OUT, then plan the next CA with the holders of the roots",
    "trust-bundle": "carnet-gateway trust propose OUT --from CURRENT; when signed: carnet-gateway trust import DIR OUT",
}


class SiteHistory:
    """The site's own log from its files, for `gateway.remembered`."""

    def __init__(self, files: LogFiles, head: Checkpoint, note: str) -> None:
        """Take the log's files and its newest published checkpoint."""
        self._files = files
        self._head = head
        self._note = note

    def checkpoint(self) -> tuple[Checkpoint, str]:
        """Return the newest published checkpoint and its note."""
        return self._head, self._note

    async def root_at(self, size: int) -> bytes:
        """Return the root over the first `size` entries."""
        return tree_root(size, read_nodes(self._head.size, self._files.tile))


def history_of(site: OfflineSite) -> SiteHistory | None:
    """Return the published log, or None if there is none yet; raise `CarnetError` if its head is not this site's."""
    files = LogFiles(site.paths.log)
    note = files.checkpoint()
    if note is None:
        return None
    head = open_checkpoint(note, origin=site.settings.log_origin, key=site.keyring().signing.public)
    return SiteHistory(files, head, note.decode("utf-8"))


async def examine_state(site: OfflineSite, *, runs: bool) -> AsyncIterator[Finding]:
    """Yield the findings about an open site; `runs` tells whether it is served meanwhile."""
    yield _database(site)
    yield _rows(site)
    yield await _at_rest(site)
    yield await _log(site)
    yield await _store(site)
    for finding in _trust(site):
        yield finding
    for finding in _expiry(site, runs=runs):
        yield finding
    now = site.trust.floor.judged(site.clock.now())
    for finding in await site.catalog.read(lambda tx: list(examine_rights(tx, now))):
        yield finding
    for finding in await site.catalog.read(
        lambda tx: [
            *_jobs(tx, runs=runs),
            *_deliveries(tx),
            *examine_duties(tx),
            *examine_copies(tx, site.settings.site, site.settings.copies),
            examine_ledger(tx),
        ]
    ):
        yield finding


def _database(site: OfflineSite) -> Finding:
    damage = damage_of(site.paths.catalog)
    if damage is not None:
        said = f"SQLite finds the catalog damaged: {damage}"
        return fail("D-DATABASE", said, "carnet-gateway restore BACKUP NEW-DIR", status=6)
    return ok("D-DATABASE", "revision as needed, whole")


def _rows(site: OfflineSite) -> Finding:
    try:
        require_own_rows(site.paths.catalog, row_seal(site.paths, site.settings.credentials_dir))
    except CarnetError as error:
        return failed("D-ROWS", error)
    return ok("D-ROWS", "every row that gives rights is sealed by this site")


async def _at_rest(site: OfflineSite) -> Finding:
    def sample(tx: Transaction) -> list[tuple[TransferId, bytes]]:
        found = ((record.id, tx.artifact_key(record.id)) for record in tx.transfers(limit=200))
        return [(transfer, sealed) for transfer, sealed in found if sealed is not None][:_KEYS_OPENED]

    sealed = await site.catalog.read(sample)
    try:
        keyring = site.keyring()
        for transfer, secret in sealed:
            keyring.open(secret, transfer.raw)
    except CarnetError as error:
        return failed("D-AT-REST", error, "put the at-rest.key of this catalog back: carnet-gateway restore BACKUP NEW-DIR")
    return ok("D-AT-REST", f"{len(sealed)} artifact keys open")


async def _log(site: OfflineSite) -> Finding:
    fix = f"carnet-gateway log verify {site.paths.root}; keep a copy of {site.paths.log} and tell an auditor"
    entries = await site.catalog.read(lambda tx: tx.log_size())
    try:
        history = history_of(site)
        if history is None:
            return ok("D-LOG", f"{entries} entries, none published yet")
        size = history.checkpoint()[0].size
        if size > entries:
            return fail("D-LOG", f"{size} entries are published, the catalog holds {entries}", fix, status=6)
        if size <= _LOG_READ_MAX:
            verify_directory(site.paths.log, origin=site.settings.log_origin, key=site.keyring().signing.public)
        elif await history.root_at(size) != history.checkpoint()[0].root:
            return fail("D-LOG", "the published tiles do not have the root of the checkpoint", fix, status=6)
    except CarnetError as error:
        return failed("D-LOG", error, fix)
    return ok("D-LOG", f"{size} of {entries} entries are published and verify")


async def _store(site: OfflineSite) -> Finding:
    """Read some segments, from places in the list of all that differ at each run."""
    start = SegmentId.from_binary(bytes([1]) + secrets.token_bytes(32))
    found = await site.catalog.read(lambda tx: tx.stored_segments(after=start, limit=_SEGMENTS_READ))
    if len(found) < _SEGMENTS_READ:
        rest = _SEGMENTS_READ - len(found)
        found += await site.catalog.read(lambda tx: tx.stored_segments(after=None, limit=rest))
    store, bad = open_store(site.paths), []
    try:
        for segment in found:
            try:
                await store.get(segment.id)
            except CarnetError:
                bad.append(segment.id)
    finally:
        store.close()
    if bad:
        said = f"{len(bad)} of {len(found)} segments are missing or damaged, the first is {bad[0]}"
        return fail("D-STORE", said, f"carnet-gateway store check {site.paths.root} --read-data", status=6)
    return ok("D-STORE", f"{len(found)} segments read, all right")


def _trust(site: OfflineSite) -> Iterator[Finding]:
    bundle, own = site.trust.current(), site.settings.site
    if bundle is None:
        yield fail("D-TRUST", "there is no trust bundle yet", f"carnet-gateway trust import {site.paths.root} BUNDLE", status=2)
        return
    entry = next((known for known in bundle.sites if known.name == own), None)
    if entry is None or entry.signing_key != site.keyring().signing.public:
        said = f"bundle {bundle.version} names {'another key for' if entry else 'no'} site {own}"
        yield fail("D-TRUST", said, f"have the roots sign a bundle with {site.paths.card}", status=2)
        return
    yield ok("D-TRUST", f"bundle {bundle.version} of {bundle.trust_domain}, {len(bundle.lanes)} lanes")
    yield from _policy_of(site, bundle)
    unknown = sorted({lane.name for lane in bundle.lanes if own in lane.sites and set(lane.suites) != {SUITE_1}})
    if unknown:
        yield fail("D-SUITE", f"lanes {', '.join(unknown)} name a suite that this version has not", "upgrade this site", status=2)
    else:
        yield ok("D-SUITE", f"suite {SUITE_1} alone")


def _policy_of(site: OfflineSite, bundle: TrustBundle) -> Iterator[Finding]:
    try:
        book = PolicyBook(site.paths.policy)
    except CallerError as error:
        yield failed("D-OWNERS", error)
        return
    problem = lacking(book.digest, book.signatures, bundle, site.trust.revocations.state.revoked_keys(bundle))
    if problem is not None:
        yield fail("D-OWNERS", problem, f"carnet-gateway policy sign {site.paths.policy} --key KEY, by two of them", status=3)
    else:
        yield ok("D-OWNERS", f"{'two of its owners' if bundle.policy_owners else 'nobody need'} sign the policy")
    yield from examine_asked(book.policy, bundle)


def _expiry(site: OfflineSite, *, runs: bool) -> Iterator[Finding]:
    now, good = site.clock.now(), 0
    for one in expiries(site.trust, site.settings.site, site.clock, site.paths.tls_certificate):
        kind, _, of = one.what.partition("/")
        renewed_here = kind == "tls-certificate" or of == site.settings.site or (kind == "kem-key" and not of)
        fix = _RENEWED_BY.get(kind, "") if not of else f"see that site {of} runs and can be reached"
        said = f"{one.what} ends at {format_time(one.ends)}"
        if one.ends <= now and renewed_here and not runs:
            yield warn("D-EXPIRY", said, "carnet-gateway serve DIR, which renews it")
        elif one.ends <= now:
            yield fail("D-EXPIRY", said, fix or "carnet-gateway serve DIR; its log says what keeps it from renewing", status=5)
        elif one.ends - now < _SOON.get(kind, timedelta(0)) and not of:
            yield warn("D-EXPIRY", said, fix)
        else:
            good += 1
    yield ok("D-EXPIRY", f"{good} things last")


def _jobs(tx: Transaction, *, runs: bool) -> Iterator[Finding]:
    tallies, stuck = tx.tally_jobs(), 0
    for tally in tallies:
        late = tx.now - tally.oldest_due
        if runs and late > _LATE:
            stuck += 1
            yield fail(
                "D-JOBS",
                f"{tally.count} {tally.kind} jobs are late by {late.seconds // 60} minutes",
                "restart the server",
                status=5,
            )
        elif tally.attempts_max >= _ATTEMPTS_MANY:
            stuck += 1
            said = f"{tally.failing} of {tally.count} {tally.kind} jobs failed, one {tally.attempts_max} times"
            yield warn("D-JOBS", said, "grep job_delayed in the server's log: it says why")
    if not stuck:
        yield ok("D-JOBS", f"{sum(tally.count for tally in tallies)} jobs are queued")


def _deliveries(tx: Transaction) -> Iterator[Finding]:
    waiting = tx.waiting_deliveries(_DELIVERIES_SHOWN + 1)
    for one in waiting[:_DELIVERIES_SHOWN]:
        why = f": {one.error}" if one.error else ""
        said = f"transfer {one.transfer} to {one.destination} is {one.state} since {format_time(one.since)}{why}"
        yield warn("D-DELIVERY", said, f"carnet transfer show {one.transfer}")
    if len(waiting) > _DELIVERIES_SHOWN:
        yield warn("D-DELIVERY", f"more than {_DELIVERIES_SHOWN} deliveries wait", "carnet transfer list")
    if not waiting:
        yield ok("D-DELIVERY", "none waits")
