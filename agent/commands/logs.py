"""`log verify|show`: check a site's log without trusting the site, online or from a copy of its directory."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.commands.connection import saying
from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for

Where = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="A copy of a log's directory; without it, the home site's log is fetched.")
]
SiteOption = Annotated[str | None, typer.Option("--site", help="Whose log DIR is; without it, the home site's.")]
Trust = Annotated[
    Path | None, typer.Option("--trust", help="A trust bundle file to take the site's key from, instead of this identity's.")
]
Roots = Annotated[str | None, typer.Option("--root-fingerprint", help="The roots that --trust must be signed by.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group to the root."""
    group = new_app("Check a site's log without trusting the site.")
    group.command("verify")(verify)
    group.command("show")(show)
    app.add_typer(group, name="log")


def verify(
    directory: Where = None,
    *,
    site: SiteOption = None,
    trust: Trust = None,
    root_fingerprint: Roots = None,
    since: Annotated[Path | None, typer.Option(help="A checkpoint kept earlier: the log must only have grown since.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check signature, every entry, every tile and the root of a log; and that it only grew since a checkpoint you kept."""
    from agent.logs import check_log
    from carnet.errors import CallerError

    try:
        earlier = None if since is None else since.read_bytes()
    except OSError as error:
        raise CallerError("E-SOURCE", f"{since} cannot be read: {error.strerror}") from None

    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with _reading(directory, site, trust, root_fingerprint, terminal) as source:
            report, compared = await asyncio.to_thread(check_log, source, earlier)
            document: dict[str, Any] = {
                "log": source.origin,
                "size": report.size,
                "root": report.root.hex(),
                "entries": dict(sorted(report.entries_by_type.items())),
                "compared_with_size": compared,
            }
            lines = [f"log {source.origin}: {report.size} entries, root {report.root.hex()}: every entry and tile is right"]
            if compared is not None:
                lines.append(f"  it only grew since a checkpoint of {compared} entries")
            lines += [f"  {count:6d} {kind}" for kind, count in sorted(report.entries_by_type.items())]
            terminal.answer(document, lines)

    wait_for(work())


def show(
    directory: Where = None,
    *,
    site: SiteOption = None,
    trust: Trust = None,
    root_fingerprint: Roots = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many entries.")] = 50,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List the newest entries of a log: index, time, type. Values are commitments; the site that owns them can open them."""
    from agent.logs import newest_entries

    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with _reading(directory, site, trust, root_fingerprint, terminal) as source:
            entries = await asyncio.to_thread(newest_entries, source, limit)
            document = {
                "log": source.origin,
                "entries": [{"index": index, **entry.to_json()} for index, entry in entries],
            }
            lines = [f"{index:8d}  {entry.at}  {entry.type.value}" for index, entry in entries]
            terminal.answer(document, lines)

    wait_for(work())


def _reading(
    directory: Path | None, site: str | None, trust: Path | None, root_fingerprint: str | None, terminal: Terminal
) -> Any:
    from agent.logs import open_log
    from carnet.errors import CallerError
    from carnet.identifiers import Digest, SiteName

    if root_fingerprint is not None and trust is None:
        raise CallerError(
            "E-USAGE", "--root-fingerprint is of the roots of a bundle given with --trust", remedy="give the bundle with --trust"
        )
    return open_log(
        get_config(),
        directory=directory,
        site=None if site is None else SiteName(site),
        trust=trust,
        root_fingerprint=None if root_fingerprint is None else Digest(root_fingerprint),
        on_wait=saying(terminal),
    )
