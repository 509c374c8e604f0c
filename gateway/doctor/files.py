"""What the site directory and this machine tell without opening anything: modes, keys, policy, room on the disk."""

import stat
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

from carnet.errors import CallerError, CarnetError
from carnet.policy import Policy
from gateway.doctor.findings import Finding, fail, failed, ok, warn
from gateway.keyring import FileKeyring
from gateway.policies import PolicyBook
from gateway.reserve import free_bytes
from gateway.settings import GatewaySettings
from gateway.sitedir import SitePaths, is_restored, load_authority

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MIB = 1 << 20
_SOON: Final = timedelta(days=30)
_NO_END: Final = "9999-12-31"
_REVIEW: Final = "ask its owner to review it and put a later edition in its place, then: kill -HUP of the server"


def examine_files(settings: GatewaySettings, paths: SitePaths) -> Iterator[Finding]:
    """Yield the findings. Blocks."""
    yield from _modes(paths)
    yield _keys(settings, paths)
    yield from _policy(paths)
    yield _disk(settings, paths)
    if is_restored(paths):
        yield warn(
            "D-RESTORED",
            "the site came out of a backup; it signs nothing before every peer on its lanes has answered",
            "carnet-gateway serve DIR, once the peers can be reached",
        )


def _modes(paths: SitePaths) -> Iterator[Finding]:
    directories = [paths.root, paths.keys, paths.authority_key.parent]
    secrets = [*sorted(paths.keys.glob("*.key")), paths.authority_key]
    catalog = [path for path in sorted(paths.root.glob(paths.catalog.name + "*")) if path.is_file()]
    wrong = []
    for path in (*directories, *secrets, *catalog):
        try:
            status = path.stat()
        except OSError:
            continue  # a missing key is a finding of its own
        if stat.S_IMODE(status.st_mode) & _OTHERS:
            wrong.append((path, stat.S_IMODE(status.st_mode)))
    for path, mode in wrong:
        better = "700" if path.is_dir() else "600"
        # Only what is refused anyway fails: the server opens no key that others can read.
        make = fail if path.suffix == ".key" or path == paths.keys else _warn_with_status
        yield make("D-MODES", f"{path} is open to others (mode {mode:04o})", f"chmod {better} {path}", status=2)
    if not wrong:
        yield ok("D-MODES", f"{len(secrets)} secret files are their owner's alone")


def _warn_with_status(code: str, said: str, fix: str, *, status: int) -> Finding:
    del status
    return warn(code, said, fix)


def _keys(settings: GatewaySettings, paths: SitePaths) -> Finding:
    try:
        keyring = FileKeyring.load(paths.keys, credentials=settings.credentials_dir)
        load_authority(paths, settings.credentials_dir)
    except CarnetError as error:
        return failed("D-KEYS", error)
    return ok("D-KEYS", f"signing key {keyring.signing.public.keyid}, KEM keys {', '.join(map(str, keyring.kem_numbers()))}")


def _policy(paths: SitePaths) -> Iterator[Finding]:
    try:
        book = PolicyBook(paths.policy)
    except CallerError as error:
        yield failed("D-POLICY", error, f"carnet-gateway policy check {paths.policy}")
        return
    yield ok("D-POLICY", f"policy {book.digest}")
    today = datetime.now(UTC).date()
    now, soon = _out_of_force(book.policy, today), _out_of_force(book.policy, today + _SOON)
    if now:
        yield fail("D-POLICY", f"{now} cannot be relied upon today: what rests on it is held", _REVIEW, status=3)
    elif soon:
        yield warn("D-POLICY", f"{soon} cannot be relied upon in {_SOON.days} days", _REVIEW)


def _out_of_force(policy: Policy, on: date) -> str:
    """Return the files of the policy, and those of groups that its rules name, that do not count on a day."""
    ended = [one.metadata for one in policy.files if (one.metadata.effective_until or _NO_END) < on.isoformat()]
    groups = policy.groups.outdated(policy.groups_named, on)
    return ", ".join([*(f"policy {one.id}" for one in ended), *(f"groups {name}" for name in groups)])


def _disk(settings: GatewaySettings, paths: SitePaths) -> Finding:
    reserve = settings.limits.disk_reserve_bytes
    try:
        free = free_bytes(paths.root)
    except OSError as error:
        return fail("D-DISK", f"{paths.root}: {error.strerror}", f"df {paths.root}")
    said = f"{free // _MIB} MiB free, {reserve // _MIB} MiB are kept free"
    if free < reserve:
        return fail(
            "D-DISK", f"{said}: nothing new is taken in", "carnet artifact delete REPOSITORY:TAG, or enlarge the disk", status=5
        )
    if free < 2 * reserve:
        return warn("D-DISK", said, "carnet artifact delete REPOSITORY:TAG, or enlarge the disk")
    return ok("D-DISK", said)
