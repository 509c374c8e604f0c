"""`transfer list|show|wait|cancel|retry`: what became of what was pushed."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.commands.connection import GiveUp, asking, connected, end_with
from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for

if TYPE_CHECKING:
    from carnet.errors import CarnetError
    from carnet.flow.link import Timeouts

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
    timeout: GiveUp = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """List transfers, newest first."""
    from agent.commands.outcome import describe, summarise
    from carnet.errors import CallerError
    from carnet.messages import TransferView
    from carnet.transfer import MACHINES

    known = sorted({one for machine in MACHINES.values() for one in machine})
    for one in state or ():
        if one not in known:
            raise CallerError("E-USAGE", f"--state {ascii(one)[:60]} is not one of: {', '.join(known)}")

    terminal = Terminal(json, quiet, verbose)

    async def work() -> None:
        async with connected(terminal, timeouts=asking(timeout)) as session:
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
            terminal.answer({"transfers": [view.model_dump(mode="json") for view in views]}, lines)

    wait_for(work())


def show(transfer: Id, *, timeout: GiveUp = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Show one transfer: its deliveries, decisions, reasons, and what to do."""
    _about(transfer, "show", Terminal(json, quiet, verbose), timeouts=asking(timeout))


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
    from agent.amounts import parse_duration
    from agent.commands.moving import parse_choice
    from agent.commands.outcome import describe, failure
    from agent.push import Wait, is_settled
    from carnet.identifiers import TransferId

    goal = parse_choice(until, Wait, "--for")
    timeout_s = None if timeout is None else parse_duration(timeout)
    wanted = TransferId(transfer)
    terminal = Terminal(json, quiet, verbose)

    async def work() -> "CarnetError | None":
        async with connected(terminal) as session:
            view = await session.client.wait(wanted, lambda view: is_settled(view, goal), timeout_s)
            terminal.done({"transfer": view.model_dump(mode="json")}, describe(view))
            return failure(view)

    end_with(wait_for(work()))


def cancel(
    transfer: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the log.")] = "",
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Give a transfer up whose key has not left; its segments are removed."""
    from agent.recall import check_reason

    if reason:
        check_reason(reason)
    _about(transfer, "cancel", Terminal(json, quiet, verbose), reason)


def retry(transfer: Id, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Try again now what waits: a delivery that failed, a hold whose cause is gone, a key that has to be wrapped again."""
    _about(transfer, "retry", Terminal(json, quiet, verbose))


def _about(transfer: str, action: str, terminal: Terminal, reason: str = "", timeouts: "Timeouts | None" = None) -> None:
    from agent.commands.outcome import describe
    from agent.rewrap import due, rewrap
    from carnet.identifiers import TransferId

    wanted = TransferId(transfer)

    async def work() -> None:
        async with connected(terminal, timeouts=timeouts) as session:
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
