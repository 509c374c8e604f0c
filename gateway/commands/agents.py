"""`invite` and `agent list`: who may enrol, who has."""

from pathlib import Path
from typing import Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

MINUTES = 60
_MINUTES_MAX = 7 * 24 * 60
_GRANTS = ("push,pull,inspect:*@*",)


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("invite")(invite)
    group = new_app("The agents that are enrolled at the site.")
    group.command("list")(list_agents)
    app.add_typer(group, name="agent")


def invite(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name: a-z, 0-9, -.")],
    *,
    grant: Annotated[
        list[str] | None,
        typer.Option(
            help="What the agent may do: action[,action]:<repository glob>@<lane glob>, actions push pull delete inspect admin "
            "approve; may be repeated. Without any: push,pull,inspect:*@*"
        ),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where that agent reaches the site, if not at the site's url.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=_MINUTES_MAX, help="How long the invite can be used.")] = MINUTES,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Print an invite for agent NAME: one line for `carnet enroll`, for one use.

    The line is a secret until it is used. An agent of that name that is enrolled already gets new keys and these grants.
    """
    line, until = wait_for(_invite(directory, name, tuple(grant or _GRANTS), url, minutes))
    terminal = Terminal(json, quiet, verbose)
    terminal.note(f"for one use until {until}")
    terminal.answer({"invite": line, "name": name, "expires": until}, [line])


def list_agents(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List who is enrolled: name, kind, since when, and what each may do."""
    rows = wait_for(_list(directory))
    lines = [f"{row['identity']}  {row['enrolled']}  {' '.join(row['grants'])}" for row in rows]
    Terminal(json, quiet, verbose).answer({"agents": rows}, lines or ["nobody is enrolled"])


async def _invite(directory: Path, name: str, grants: tuple[str, ...], url: str | None, minutes: int) -> tuple[str, str]:
    from datetime import timedelta

    from carnet.identifiers import AgentName
    from carnet.timestamps import format_time
    from gateway.enrolment import InviteOrder, make_invite
    from gateway.offline import open_site

    life = timedelta(minutes=minutes)
    async with open_site(directory) as site:
        order = InviteOrder(name=AgentName(name), grants=grants, url=(url or site.settings.url).rstrip("/"), life=life)
        invite = await make_invite(site.catalog, site.facts, site.authority().fingerprint, site.trust, order)
        return invite.encode(), format_time(site.clock.now() + life)


async def _list(directory: Path) -> list[dict[str, str | list[str]]]:
    from carnet.timestamps import format_time
    from gateway.offline import open_site

    async with open_site(directory) as site:
        records = await site.catalog.read(lambda transaction: transaction.identities())
    return [
        {
            "identity": record.identity,
            "kind": record.kind,
            "enrolled": format_time(record.enrolled_at) if record.enrolled_at else "",
            "grants": list(record.grants),
        }
        for record in records
    ]
