"""`duty`: what policy asked people to do about transfers, until when, and the signed word that it is done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from gateway.duties import KeptDuty

DutyName = Annotated[str, typer.Argument(metavar="DUTY", help="Its id, as `duty list` shows it.")]
Site = Annotated[str, typer.Option(help="The site that keeps the duty.")]
As = Annotated[str, typer.Option("--as", metavar="NAME:ROLE", help="Who you are, and the role in which you did it.")]
Note = Annotated[str, typer.Option(help="What you did or found; it is signed with the rest.")]
Key = Annotated[Path, typer.Option(help="Your private key: the file that `carnet key new` wrote.")]
Signed = Annotated[Path, typer.Argument(metavar="FILE", help="What `duty sign` printed.")]
All = Annotated[bool, typer.Option("--all", help="Those that are done as well.")]
_AS = ("--as is who you are and the role in which you did it", "write NAME:ROLE, such as bob:security")
_FORMS = {
    "site": ("--site is not the name of a site", "write the name that the trust bundle has, such as us"),
    "duty": ("the id of a duty is 16 hexadecimal digits", "give it as `carnet-gateway duty list DIR` shows it"),
    "person": _AS,
    "role": _AS,
    "note": ("--note is one line of at most 1000 characters, and not empty", "say shortly what you did or found"),
}
"""What is wrong with each value, and what to write."""


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    group = new_app("Duties: notices, reports and reviews that policy asks people for, and what they signed about them.")
    group.command("list")(list_duties)
    group.command("sign")(sign)
    group.command("done")(done)
    app.add_typer(group, name="duty")


def list_duties(
    directory: Directory, *, every: All = False, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """List the open duties, the one that is due first in front."""
    rows = wait_for(_rows(directory, every=every))
    lines = [
        f"{row['id']}  {row['state']}  {row['what']}  {row['name']}  transfer {row['transfer']}"
        + (f"  by {row['person']}: {row['note']}" if "person" in row else "")
        for row in rows
    ]
    Terminal(json, quiet, verbose).answer({"duties": rows}, lines or ["no duty is open here"])


def sign(
    duty: DutyName,
    *,
    site: Site,
    who: As,
    note: Note,
    key: Key,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Sign that a duty is done and print it, to be given to `duty done` at the site. Needs no site."""
    from datetime import UTC, datetime

    from pydantic import ValidationError

    from carnet.errors import CallerError
    from carnet.fulfilment import Fulfilment
    from carnet.timestamps import format_time
    from gateway.keyring import read_signing_key

    person, _, role = who.partition(":")
    said = {"site": site, "duty": duty, "person": person, "role": role, "note": note, "at": format_time(datetime.now(UTC))}
    try:
        fulfilment = Fulfilment.model_validate(said)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        problem, remedy = _FORMS[name]
        given = who if name in ("person", "role") else said[name]
        raise CallerError("E-USAGE", f"{problem}, got {ascii(given)[:80]}", remedy=remedy) from None
    envelope = fulfilment.sign(read_signing_key(key, "carnet key new"))
    Terminal(json, quiet, verbose).answer(envelope.to_json(), [envelope.encode().decode("ascii")])


def done(directory: Directory, file: Signed, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Close a duty by what somebody signed about it, and log it. The server may run meanwhile."""
    row = wait_for(_close(directory, file))
    said = f"duty {row['id']} ({row['what']}) is done, by {row['person']}"
    Terminal(json, quiet, verbose).answer(row, [said])


async def _rows(directory: Path, *, every: bool) -> list[dict[str, Any]]:
    from gateway.duties import all_duties, open_duties
    from gateway.offline import open_site

    async with open_site(directory) as site:
        found = await site.catalog.read(lambda tx: all_duties(tx) if every else list(open_duties(tx)))
        now = site.clock.now()
    return [_row(duty, late=_is_late(duty, now)) for duty in found]


async def _close(directory: Path, file: Path) -> dict[str, Any]:
    from carnet.envelope import parse_envelope
    from carnet.errors import PeerError
    from carnet.fulfilment import Fulfilment
    from carnet.limits import POLICY_BYTES_MAX
    from gateway.duties import fulfil
    from gateway.offline import open_site
    from gateway.proposals import read_bounded

    data = read_bounded(file, POLICY_BYTES_MAX)
    try:
        envelope = parse_envelope(data.strip())
        Fulfilment.read_unverified(envelope)
    except PeerError as error:
        remedy = "name what `carnet-gateway duty sign` printed"
        raise PeerError(error.code, f"{file.name}: {error.problem}", remedy=remedy) from None
    async with open_site(directory) as site:
        bundle = site.trust.state().current
        await site.trust.refresh_revocations()
        revoked = frozenset(site.trust.revocations.state.revoked_keys(bundle))
        now = site.clock.now()
        kept, _ = await site.catalog.write(lambda tx: fulfil(tx, site.settings.site, envelope, bundle, now=now, revoked=revoked))
    return _row(kept, late=False)


def _is_late(duty: "KeptDuty", now: Any) -> bool:
    from carnet.timestamps import format_time

    return duty.done is None and duty.due < format_time(now)


def _row(duty: "KeptDuty", *, late: bool) -> dict[str, Any]:
    state = f"{'LATE, was due' if late else 'due'} {duty.due}"
    row = {"id": duty.id, "transfer": duty.transfer, "name": duty.name, "lane": duty.lane, "what": duty.words, "due": duty.due}
    said = duty.fulfilment
    if said is None:
        return {**row, "late": late, "state": state}
    return {**row, "late": False, "state": f"done {said.at}", "person": said.person, "role": said.role, "note": said.note}
