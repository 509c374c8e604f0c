"""`site add`, `lane list`, `lane add`: changes gathered in the site directory's pending proposal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from gateway.commands.known import both_bundles, list_sites, show_lane, show_site
from gateway.commands.terminal import Directory
from gateway.commands.trust import lane_line

if TYPE_CHECKING:
    from carnet.trust import TrustBundle
    from gateway.proposals import Change


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    sites = new_app("The sites that there are, and those of the next trust bundle.")
    sites.command("list")(list_sites)
    sites.command("show")(show_site)
    sites.command("add")(add_site)
    app.add_typer(sites, name="site")
    lanes = new_app("The lanes that there are, and those of the next trust bundle.")
    lanes.command("list")(list_lanes)
    lanes.command("show")(show_lane)
    lanes.command("add")(add_lane)
    app.add_typer(lanes, name="lane")


def add_site(
    directory: Directory,
    card: Annotated[Path, typer.Argument(metavar="CARD", help="The other site's site-card.json.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add a site to the proposal pending in DIR/trust/proposal.json; it takes effect when the roots have signed it.

    Compare the card's signing key with that site's operator, by voice or in person: nothing else vouches for it.
    """
    from gateway.proposals import Change, read_card

    given = read_card(card)
    path, bundle = wait_for(_amend(directory, Change(cards=(given,))))
    Terminal(json, quiet, verbose).done(
        {"proposal": str(path), "version": bundle.version, "site": given.name, "signing_key": given.signing_key.hex},
        [f"site {given.name} is in proposal {bundle.version}, {path}", f"signing key {given.signing_key.hex}"],
    )


def list_lanes(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the lanes of the trust bundle in force, and those of a pending proposal that differ."""
    current, pending = wait_for(both_bundles(directory))
    lanes = current.lanes if current else ()
    waiting = tuple(lane for lane in pending.lanes if lane not in lanes) if pending else ()
    lines = [lane_line(lane) for lane in lanes] + [f"{lane_line(lane)}  (proposed, not signed)" for lane in waiting]
    document = {"lanes": [lane.to_json() for lane in lanes], "proposed": [lane.to_json() for lane in waiting]}
    Terminal(json, quiet, verbose).answer(document, lines or ["no lane but home"])


def add_lane(
    directory: Directory,
    lane: Annotated[str, typer.Argument(metavar="LANE", help="NAME=ORIGIN:DEST[,DEST]...[:sealed]")],
    *,
    approval: Annotated[
        list[str] | None, typer.Option(help="ROLE:COUNT: so many people must approve before a key leaves; may be repeated.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add a lane, or replace the one of its name, in the proposal pending in DIR/trust/proposal.json."""
    from gateway.proposals import Change, parse_floor, parse_lane

    given = parse_lane(lane)
    floors = (parse_floor(f"{given.name}={','.join(approval)}"),) if approval else ()
    path, bundle = wait_for(_amend(directory, Change(lanes=(given,), floors=floors)))
    Terminal(json, quiet, verbose).done(
        {"proposal": str(path), "version": bundle.version, "lane": bundle.lane(given.name).to_json()},
        [f"lane {given.name} is in proposal {bundle.version}, {path}"],
    )


async def _amend(directory: Path, change: "Change") -> "tuple[Path, TrustBundle]":
    """Write the pending proposal with `change`: a new one, or the one there, which loses its signatures."""
    from gateway.offline import open_site
    from gateway.proposals import amend, propose, read_proposal, unsigned
    from gateway.storage.durable import write_durable

    async with open_site(directory) as site:
        now, path = site.clock.now(), site.paths.proposal
        current = site.trust.state().current
        pending = read_proposal(path)[1] if path.exists() else None
        stands = pending is not None and pending.version == current.version + 1
        bundle = amend(pending, change, now) if pending and stands else propose(current, change, now)
        write_durable(path, unsigned(bundle).encode() + b"\n")
        return path, bundle
