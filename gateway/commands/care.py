"""`policy check`, `store check`, `db`, `log verify`: whether a site is as it should be. All but `db upgrade` only look."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

_FAULTS_SHOWN_MAX = 1_000


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    policy = new_app("The policy files.")
    policy.command("check")(check_policy_file)
    policy.callback()(_group)
    app.add_typer(policy, name="policy")
    store = new_app("The segments on disk.")
    store.command("check")(check_segments)
    store.callback()(_group)
    app.add_typer(store, name="store")
    database = new_app("The catalog's database.")
    database.command("upgrade")(upgrade_database)
    database.command("check")(check_database)
    app.add_typer(database, name="db")
    log = new_app("The site's transparency log.")
    log.command("verify")(verify_log)
    log.callback()(_group)
    app.add_typer(log, name="log")


def check_policy_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy file (YAML), or - for standard input.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check a policy file before a site reads it: every mistake and doubt, by line. A warning does not fail the check."""
    from carnet.errors import CallerError
    from carnet.limits import POLICY_BYTES_MAX
    from carnet.policy import check_policy
    from gateway.proposals import read_bounded

    data = sys.stdin.buffer.read(POLICY_BYTES_MAX + 1) if str(file) == "-" else read_bounded(file, POLICY_BYTES_MAX)
    findings = check_policy(data.decode("utf-8", "replace"))
    document = {"findings": [{"line": one.line, "error": one.is_error, "text": one.text} for one in findings]}
    errors = [finding for finding in findings if finding.is_error]
    lines = [f"{file}: {finding}" for finding in findings] or [f"{file}: in order"]
    Terminal(json, quiet, verbose).done(document, lines)
    if errors:
        raise CallerError("E-POLICY", f"{file}: {len(errors)} errors, the first: {errors[0]}")


def check_segments(
    directory: Directory,
    *,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read and hash every segment, not only its size.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare the segments on disk with the catalog; nothing is changed. The site may be served meanwhile.

    Segments that are missing or corrupt fail the check (status 6); segments that nobody knows are only named.
    """
    from carnet.errors import IntegrityError

    found = wait_for(_check_store(directory, read_data=read_data))
    bad = [segment for segment, fault in found if fault != "unknown"]
    lines = [f"{fault:8} {segment}" for segment, fault in found[:_FAULTS_SHOWN_MAX]] or ["the store is in order"]
    Terminal(json, quiet, verbose).done({"findings": [{"segment": one, "fault": fault} for one, fault in found]}, lines)
    if bad:
        raise IntegrityError(
            "E-SEGMENT-CORRUPT",
            f"{len(bad)} segments are missing or damaged, the first is {bad[0]}",
            remedy="run the pushes that sent them again, or restore the store from the backup",
        )


def upgrade_database(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Bring the catalog to the revision that this version needs. Stop the server and back the file up first."""
    from gateway.catalog.migrate import HEAD, require_catalog, upgrade
    from gateway.offline import row_seal
    from gateway.settings import load_settings
    from gateway.sitedir import SitePaths

    settings = load_settings(directory)
    paths = SitePaths(settings.data_dir)
    path = paths.catalog
    require_catalog(path)
    upgrade(path, row_seal(paths, settings.credentials_dir))
    Terminal(json, quiet, verbose).done({"catalog": str(path), "revision": HEAD}, [f"{path} has revision {HEAD}"])


def check_database(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Tell whether the catalog is exactly what this version needs, and this site wrote each row that gives rights."""
    from gateway.catalog.migrate import HEAD, check, require_own_rows
    from gateway.offline import row_seal
    from gateway.settings import load_settings
    from gateway.sitedir import SitePaths

    settings = load_settings(directory)
    paths = SitePaths(settings.data_dir)
    path = paths.catalog
    check(path)
    require_own_rows(path, row_seal(paths, settings.credentials_dir))
    Terminal(json, quiet, verbose).done({"catalog": str(path), "revision": HEAD}, [f"{path} is in order, revision {HEAD}"])


def verify_log(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Verify the published log of the site in DIR, offline: signature, every entry, every tile, the root."""
    from gateway.keyring import FileKeyring
    from gateway.settings import load_settings
    from gateway.sitedir import SitePaths
    from gateway.translog.verify import verify_directory

    settings = load_settings(directory)
    paths = SitePaths(settings.data_dir)
    key = FileKeyring.load(paths.keys, credentials=settings.credentials_dir).signing.public
    report = verify_directory(paths.log, origin=settings.log_origin, key=key)
    document: dict[str, Any] = {
        "origin": settings.log_origin,
        "size": report.size,
        "root": report.root.hex(),
        "entries": dict(report.entries_by_type),
    }
    lines = [f"log {settings.log_origin} verifies: {report.size} entries, root {report.root.hex()}"]
    Terminal(json, quiet, verbose).answer(
        document, lines + [f"{count:8} {kind}" for kind, count in sorted(document["entries"].items())]
    )


def _group() -> None:
    """Keep a group of one command a group."""


async def _check_store(directory: Path, *, read_data: bool) -> list[tuple[str, str]]:
    from gateway.checking import check_store
    from gateway.offline import open_site, open_store

    async with open_site(directory) as site:
        store = open_store(site.paths)
        try:
            return [(one.segment, one.fault.value) async for one in check_store(site.catalog, store, read_data=read_data)]
        finally:
            store.close()
