"""`invite`, `agent list` and `agent revoke`: who may enrol, who has, who may no more."""

from pathlib import Path
from typing import Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.known import show_agent
from gateway.commands.terminal import Directory

MINUTES = 60
_MINUTES_MAX = 7 * 24 * 60
_GRANTS = ("push,pull,inspect:*@*",)


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("invite")(invite)
    group = new_app("The agents that are enrolled at the site.")
    group.command("list")(list_agents)
    group.command("show")(show_agent)
    group.command("revoke")(revoke)
    app.add_typer(group, name="agent")


def invite(  # noqa: PLR0913 - a command's flags are its parameters
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
    owner: Annotated[
        list[str] | None,
        typer.Option(
            help="Who answers for the agent, as the trust bundle names them; they approve nothing of it. May be repeated."
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
    line, until = wait_for(_invite(directory, name, tuple(grant or _GRANTS), tuple(owner or ()), url, minutes))
    terminal = Terminal(json, quiet, verbose)
    terminal.note(f"for one use until {until}")
    terminal.answer({"invite": line, "name": name, "expires": until}, [line])


def list_agents(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List who is enrolled: name, kind, since when, and what each may do; or that it is revoked, since when and why."""
    rows = wait_for(_list(directory))
    lines = [f"{row['identity']}  {row['enrolled']}  {row['revoked'] or ' '.join(row['grants'])}" for row in rows]
    Terminal(json, quiet, verbose).answer({"agents": rows}, lines or ["nobody is enrolled"])


def revoke(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name, as `agent list` shows it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, as one word: key-stolen, retired. It is told to the other sites.")],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Revoke agent NAME: within seconds it may do nothing here, and other sites take nothing more that it signed.

    The server may run meanwhile. What the agent signed and what was not delivered yet is held; invites that it did not use are
    void. A new invite for the same name gives new keys; the old ones stay void.
    """
    identity, number = wait_for(_revoke(directory, name, reason))
    answer = {"identity": identity, "reason": reason, "revocation_set": number}
    Terminal(json, quiet, verbose).answer(answer, [f"{identity} is revoked ({reason}); revocation set {number}"])


async def _revoke(directory: Path, name: str, reason: str) -> tuple[str, int]:
    from carnet.identifiers import AgentName, SpiffeId
    from gateway.offline import open_site
    from gateway.revoking import check_reason, revoke_identity

    check_reason(reason)
    async with open_site(directory) as site:
        identity = SpiffeId.make(site.settings.trust_domain, site.settings.site, "agent", AgentName(name))
        key, own = site.keyring().signing, site.settings.site
        issued = await site.catalog.write(lambda transaction: revoke_identity(transaction, key, own, identity, reason))
        return identity, issued.number


async def _invite(
    directory: Path, name: str, grants: tuple[str, ...], owners: tuple[str, ...], url: str | None, minutes: int
) -> tuple[str, str]:
    from datetime import timedelta

    from carnet.errors import CallerError
    from carnet.identifiers import AgentName
    from carnet.timestamps import format_time
    from gateway.enrolment import InviteOrder, make_invite
    from gateway.offline import open_site
    from gateway.settings import check_url

    try:
        reached = None if url is None else check_url(url)
    except ValueError as error:
        raise CallerError("E-USAGE", f"--url: {error}", remedy="give the url that agents reach: https://host:port") from None
    life = timedelta(minutes=minutes)
    async with open_site(directory) as site:
        order = InviteOrder(name=AgentName(name), grants=grants, url=reached or site.settings.url, owners=owners, life=life)
        invite = await make_invite(site.catalog, site.facts, site.authority().fingerprint, site.trust, order)
        return invite.encode(), format_time(site.clock.now() + life)


async def _list(directory: Path) -> list[dict[str, str | list[str]]]:
    from carnet.timestamps import format_time
    from gateway.offline import open_site
    from gateway.revocation_marks import mark_of

    async with open_site(directory) as site:
        found = await site.catalog.read(lambda tx: [(record, mark_of(tx, record.identity)) for record in tx.identities()])
    return [
        {
            "identity": record.identity,
            "kind": record.kind,
            "enrolled": format_time(record.enrolled_at) if record.enrolled_at else "",
            "grants": list(record.grants),
            "revoked": f"revoked {mark.since} ({mark.reason})" if mark is not None and mark.is_revoked else "",
        }
        for record, mark in found
    ]
