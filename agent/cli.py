"""`carnet`: the command line of build servers, consumers and people. Each command is in `agent.commands`."""

import sys
from collections.abc import Sequence

import typer

from carnet.flow.commandline import new_app, run
from carnet.flow.starting import begin_command, end_command


def build_app() -> typer.Typer:
    """Return the whole command line."""
    # Imported here, once `main` has prepared the process for it.
    from agent.commands import approvals, artifacts, identity, logs, moving, recalls, transfers
    from agent.commands.application import root
    from agent.commands.terminal import ENVIRONMENT_PREFIX

    app = new_app(
        "Move container images and patches across borders: sealed, checked on receipt, logged with proof.",
        environment_prefix=ENVIRONMENT_PREFIX,
    )
    for module in (moving, transfers, approvals, recalls, artifacts, logs, identity):
        module.add_commands(app)
    app.callback(invoke_without_command=False)(root)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its status."""
    begin_command()
    from agent.commands.terminal import PROGRAM

    status = run(build_app(), PROGRAM, sys.argv[1:] if arguments is None else arguments)
    end_command()
    sys.exit(status)
