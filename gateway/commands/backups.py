"""`backup` and `restore`: a verified copy of a site, and a site out of one."""

from pathlib import Path
from typing import Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose
from gateway.commands.terminal import Directory


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    directory: Directory,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new directory for the backup.")],
    *,
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Back the secret keys up too; OUT is then as secret.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a verified backup of the site in DIR to OUT; the site may be served meanwhile."""
    from datetime import UTC, datetime

    from gateway.backing_up.writing import write_backup
    from gateway.settings import load_settings

    made = write_backup(load_settings(directory), out.absolute(), with_keys=with_keys, now=datetime.now(UTC))
    lines = [f"backup of {made.site} in {out}: log of {made.log_size} entries, {made.segments} segments, verified"]
    lines += [] if with_keys else ["without keys: keep DIR/keys and DIR/ca/issuing.key apart, a restore needs them"]
    Terminal(json, quiet, verbose).done(made.model_dump(exclude={"files"}), lines)


def restore(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A backup.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the site.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a site in DIR from the backup in OUT, once every byte of it was verified.

    The site signs nothing before each peer on its lanes told what it has seen of the site's log.
    """
    from gateway.backing_up.restoring import restore_backup

    made = restore_backup(out.absolute(), directory.absolute())
    lines = [f"site {made.site} is restored in {directory}, as of {made.at}"]
    lines += [] if made.with_keys else [f"put its keys into {directory}/keys and {directory}/ca before it is served"]
    Terminal(json, quiet, verbose).done(made.model_dump(exclude={"files"}), lines)
