"""`carnet-gateway`: the command line of a site. Each command is in `gateway.commands`; nothing is decided here."""

import sys
from collections.abc import Sequence

import typer

from carnet.flow.commandline import new_app, run
from gateway.commands import agents, backups, care, doctor, duties, keys, lanes, policy, site, store, trust, vouching
from gateway.commands.terminal import ENVIRONMENT_PREFIX, PROGRAM


def build_app() -> typer.Typer:
    """Return the whole command line."""
    app = new_app(
        "Run a Carnet site: the gateway between a jurisdiction and the lanes that leave it.",
        environment_prefix=ENVIRONMENT_PREFIX,
    )
    for module in (site, agents, keys, lanes, trust, policy, vouching, duties, care, store, backups, doctor):
        module.add_commands(app)
    app.callback(invoke_without_command=False)(_root)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    sys.exit(run(build_app(), PROGRAM, sys.argv[1:] if arguments is None else arguments))


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - a callback of the parser
    if wanted:
        from importlib.metadata import version

        print(version("carnet"))  # noqa: T201 - the result
        raise typer.Exit


def _root(
    *,
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, allow_from_autoenv=False, help="Print the version."
    ),
) -> None:
    del version
