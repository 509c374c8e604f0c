"""`transfer list|show|wait|cancel|retry`: what became of what was pushed."""

from typing import Annotated, Any

import typer

from agent.commands.terminal import get_config
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for

Id = Annotated[str, typer.Argument(metavar="ID", help="The transfer's id, 32 hex digits.")]


def add_commands(app: typer.Typer) -> None:
    """Add the group to the root."""
    group = new_app("What became of what was pushed.")
    group.command("list")(list_transfers)
    group.command("show")(show)
    group.command("wait")(wait)
    group.command("cancel")(cancel)
    group.command("retry")(retry)
    app.add_typer(group, name="transfer")


def list_transfers(
    *,
    state: Annotated[list[str] | None, typer.Option(help="Only transfers in this state; may be repeated.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only transfers that wait for somebody's approval.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, newest first.")] = 50,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List transfers, newest first."""
    from agent.commands.outcome import describe, summarise
    from agent.session import open_session
    from agent.settings import load_settings
    from carnet.errors import CallerError
    from carnet.messages import TransferView
    from carnet.transfer import MACHINES

    known = sorted({one for machine in MACHINES.values() for one in machine})
    for one in state or ():
        if one not in known:
            raise CallerError("E-USAGE", f"--state {ascii(one)[:60]} is not one of: {', '.join(known)}")

    async def work() -> None:
        async with open_session(load_settings(get_config()), connections=1) as session:
            views: list[TransferView] = []
            before = None
            while len(views) < limit:
                page = await session.client.list(states=tuple(state or ()), limit=limit, before=before)
                views += [view for view in page.transfers if not waiting or any(one.approvals for one in view.deliveries)]
                before = page.next
                if before is None:
                    break
            views = views[:limit]
            say = describe if waiting else summarise
            lines = [line for view in views for line in say(view)]
            terminal = Terminal(json, quiet, verbose)
            terminal.answer({"transfers": [view.model_dump(mode="json") for view in views]}, lines)

    wait_for(work())


def show(transfer: Id, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Show one transfer: its deliveries, decisions, reasons, and what to do."""
    _about(transfer, "show", Terminal(json, quiet, verbose))


def wait(
    transfer: Id,
    *,
    until: Annotated[str, typer.Option("--for", help="decided (by the home site) or delivered.")] = "delivered",
    timeout: Annotated[str | None, typer.Option(help="Stop waiting after this time, such as 90s or 30m.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Wait until a transfer is decided or delivered; the exit status says how it ended."""
    from agent.commands.moving import parse_choice, parse_duration
    from agent.commands.outcome import describe, exit_status
    from agent.push import Wait, is_settled
    from agent.session import open_session
    from agent.settings import load_settings
    from carnet.identifiers import TransferId

    goal = parse_choice(until, Wait, "--for")
    timeout_s = parse_duration(timeout) if timeout else None
    wanted = TransferId(transfer)

    async def work() -> int:
        async with open_session(load_settings(get_config()), connections=1) as session:
            view = await session.client.wait(wanted, lambda view: is_settled(view, goal), timeout_s)
            Terminal(json, quiet, verbose).done({"transfer": view.model_dump(mode="json")}, describe(view))
            return exit_status(view)

    raise typer.Exit(wait_for(work()))


def cancel(
    transfer: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Give a transfer up whose key has not left; its segments are removed."""
    _about(transfer, "cancel", Terminal(json, quiet, verbose), reason)


def retry(transfer: Id, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Try again now what waits: a delivery that failed, a hold whose cause is gone, a key that has to be wrapped again."""
    _about(transfer, "retry", Terminal(json, quiet, verbose))


def _about(transfer: str, action: str, terminal: Terminal, reason: str = "") -> None:
    from agent.commands.outcome import describe
    from agent.rewrap import due, rewrap
    from agent.session import open_session
    from agent.settings import load_settings
    from carnet.identifiers import TransferId

    wanted = TransferId(transfer)

    async def work() -> None:
        async with open_session(load_settings(get_config()), connections=1) as session:
            if action == "cancel":
                view = await session.client.cancel(wanted, reason)
            elif action == "retry":
                view = await session.client.show(wanted)
                view = await (rewrap(session, view) if due(session, view) else session.client.retry(wanted))
            else:
                view = await session.client.show(wanted)
            document: dict[str, Any] = {"transfer": view.model_dump(mode="json")}
            if action == "show":
                terminal.answer(document, describe(view))
            else:
                terminal.done(document, describe(view))

    wait_for(work())
