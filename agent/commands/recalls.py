"""`recall`: withdraw what was pushed, here and wherever it went."""

from typing import Annotated, Any

import typer

from agent.commands.connection import connected
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for


def add_commands(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("recall")(recall)


def recall(
    what: Annotated[
        str, typer.Argument(metavar="NAME|DIGEST|TRANSFER", help="repository:tag, an artifact's digest, or a transfer's id.")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why; signed, logged, and told to every site that has it.")],
    every: Annotated[bool, typer.Option("--all", help="Every transfer here of this artifact, when there are several.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until each site has signed what it deleted.")] = False,
    timeout: Annotated[
        str | None, typer.Option(help="Stop waiting after this time, such as 90s or 30m; the recall goes on.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Withdraw an artifact: nobody pulls it any more, its keys are destroyed, its segments deleted, at each site that had it."""
    from agent.amounts import parse_duration
    from agent.commands.names import parse_subject
    from agent.commands.outcome import describe
    from agent.recall import SeveralMeant, wait_acknowledged
    from agent.recall import recall as run_recall

    subject = parse_subject(what)
    timeout_s = None if timeout is None else parse_duration(timeout)
    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with connected(terminal) as session:
            try:
                views = await run_recall(session, subject, reason, every=every)
            except SeveralMeant as several:
                for view in several.found:
                    terminal.note(describe(view)[0])
                raise
            if wait:
                views = await wait_acknowledged(session, views, timeout_s)
            document: dict[str, Any] = {"transfers": [view.model_dump(mode="json") for view in views]}
            terminal.done(document, [line for view in views for line in describe(view)])

    wait_for(work())
