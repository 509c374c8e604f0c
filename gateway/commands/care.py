"""`db`, `log verify`: whether a site is as it should be. All but `db upgrade` only look."""

from typing import Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app
from gateway.commands.terminal import Directory


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    database = new_app("The catalog's database.")
    database.command("upgrade")(upgrade_database)
    database.command("check")(check_database)
    app.add_typer(database, name="db")
    log = new_app("The site's transparency log.")
    log.command("verify")(verify_log)
    log.callback()(_group)
    app.add_typer(log, name="log")


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
