"""`invite`, `agent list`, `agent grant` and `agent revoke`: who may enrol, who has, who may what, who may no more."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.known import marked, show_agent
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.granting import Ends
    from gateway.settings import GatewaySettings

MINUTES = 60
_MINUTES_MAX = 7 * 24 * 60
_GRANTS = ("push,pull,inspect:*@*",)
_GRANT_HELP = (
    "What the agent may do: WORD[,WORD]:<repository glob>@<lane glob>[,until=<day>]; may be repeated. Words are the actions push "
    "pull delete inspect admin approve and the roles consumer sender developer maintainer approver operator."
)
_UNTIL_HELP = "The last day, YYYY-MM-DD in UTC, of every right that has no end of its own."
Until = Annotated[str | None, typer.Option(metavar="DAY", help=_UNTIL_HELP)]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    app.command("invite")(invite)
    group = new_app("The agents that are enrolled at the site.")
    group.command("list")(list_agents)
    group.command("show")(show_agent)
    group.command("grant")(grant_rights)
    group.command("revoke")(revoke)
    app.add_typer(group, name="agent")


def invite(  # noqa: PLR0913 - a command's flags are its parameters
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name: a-z, 0-9, -.")],
    *,
    grant: Annotated[
        list[str] | None,
        typer.Option(help=f"{_GRANT_HELP} Without any: {_GRANTS[0]}"),
    ] = None,
    until: Until = None,
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

    The line is a secret until it is used. An agent of that name that is enrolled already gets new keys and these grants. They end
    at --until, or after the site's limits.agent_days.
    """
    given = _Given(tuple(grant or _GRANTS), until)
    line, usable, rights = wait_for(_invite(directory, name, given, tuple(owner or ()), url, minutes))
    terminal = Terminal(json, quiet, verbose)
    terminal.note(f"for one use until {usable}; gives {' '.join(rights)}")
    terminal.answer({"invite": line, "name": name, "expires": usable, "grants": rights}, [line])


def list_agents(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List who is enrolled: name, kind, since when, what each may do and until when; or that it is revoked, and why."""
    rows = wait_for(_list(directory))
    lines = [
        f"{row['identity']}  {row['enrolled']}  {row['revoked'] or ' '.join(marked(row['grants'], row['ended']))}" for row in rows
    ]
    Terminal(json, quiet, verbose).answer({"agents": rows}, lines or ["nobody is enrolled"])


def grant_rights(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The agent's name, as `agent list` shows it.")],
    *,
    grant: Annotated[list[str] | None, typer.Option(help=f"{_GRANT_HELP} These replace all that it has.")] = None,
    until: Until = None,
    nothing: Annotated[bool, typer.Option("--nothing", help="Take every right away; the agent stays enrolled.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Change what the enrolled agent NAME may do: other rights, another end for those it has, or none.

    The server may run meanwhile; the agent's next request is judged by it, also on a connection that is open.
    """
    identity, before, after = wait_for(_grant(directory, name, _Given(tuple(grant) if grant else None, until), nothing=nothing))
    lines = [f"{identity}  {' '.join(after) or 'nothing'}", f"before: {' '.join(before) or 'nothing'}"]
    Terminal(json, quiet, verbose).answer({"identity": identity, "grants": after, "before": before}, lines)


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


@dataclass(frozen=True)
class _Given:
    """What the command line says about rights."""

    grants: tuple[str, ...] | None
    until: str | None

    def ends(self, settings: "GatewaySettings") -> "Ends":
        """Return until when the rights last at this site; raise `CallerError` E-USAGE for what is no day."""
        from gateway.granting import Ends
        from gateway.grants import parse_day

        return Ends(until=None if self.until is None else parse_day(self.until), days_max=settings.limits.agent_days)


async def _grant(directory: Path, name: str, given: _Given, *, nothing: bool) -> tuple[str, list[str], list[str]]:
    from datetime import UTC

    from carnet.errors import CallerError
    from carnet.identifiers import AgentName, SpiffeId
    from gateway.granting import change_grants
    from gateway.offline import open_site
    from gateway.ports import Transaction

    if nothing == (given.grants is not None or given.until is not None):
        raise CallerError(
            "E-USAGE", "either new rights, or an end, or nothing", remedy="give --grant, --until, both, or --nothing"
        )
    async with open_site(directory) as site:
        identity = SpiffeId.make(site.settings.trust_domain, site.settings.site, "agent", AgentName(name))
        ends = given.ends(site.settings)

        def change(tx: Transaction) -> tuple[list[str], list[str]]:
            known, today = tx.identity(identity), site.trust.floor.judged(tx.now).astimezone(UTC).date()
            changed = change_grants(tx, identity, () if nothing else given.grants, ends, today)
            return list(known.grants if known is not None else ()), list(changed.grants)

        before, after = await site.catalog.write(change)
        return identity, before, after


async def _invite(
    directory: Path, name: str, given: _Given, owners: tuple[str, ...], url: str | None, minutes: int
) -> tuple[str, str, list[str]]:
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
        order = InviteOrder(
            name=AgentName(name),
            grants=given.grants or (),
            url=reached or site.settings.url,
            owners=owners,
            life=life,
            ends=given.ends(site.settings),
        )
        invite = await make_invite(site.catalog, site.facts, site.authority().fingerprint, site.trust, order)
        kept = await site.catalog.read(lambda tx: tx.invite(invite.id))
        return invite.encode(), format_time(site.clock.now() + life), list(kept.grants if kept is not None else ())


async def _list(directory: Path) -> list[dict[str, Any]]:
    from carnet.timestamps import format_time
    from gateway.grants import ended
    from gateway.offline import open_site
    from gateway.revocation_marks import mark_of

    async with open_site(directory) as site:
        found = await site.catalog.read(lambda tx: [(record, mark_of(tx, record.identity)) for record in tx.identities()])
        now = site.trust.floor.judged(site.clock.now())
    return [
        {
            "identity": record.identity,
            "kind": record.kind,
            "enrolled": format_time(record.enrolled_at) if record.enrolled_at else "",
            "grants": list(record.grants),
            "ended": ended(record.grants, now),
            "revoked": f"revoked {mark.since} ({mark.reason})" if mark is not None and mark.is_revoked else "",
        }
        for record, mark in found
    ]
