"""`site add`, `site renew-ca`, `lane list`, `lane add`: what goes into the next trust bundle, gathered in a pending proposal."""

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
    sites.command("renew-ca")(renew_ca)
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


def renew_ca(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Give the site's issuing CA a certificate for one more year, for the same key; it is used when a trust bundle names it.

    Hand the new site-card.json to the holders of the roots, or take it with `site add`. Nothing is restarted and nobody enrols
    anew: what the old certificate vouches for, the new one does too. Do it before the old one ends.
    """
    card, ends = wait_for(_renew_ca(directory))
    Terminal(json, quiet, verbose).done(
        {"card": str(card), "ends": ends}, [f"the next certificate of the issuing CA, until {ends}, is in {card}"]
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


async def _renew_ca(directory: Path) -> tuple[Path, str]:
    from cryptography import x509

    from carnet.timestamps import format_time
    from gateway.offline import open_site
    from gateway.sitedir import propose_authority

    async with open_site(directory) as site:
        card = propose_authority(site.paths, site.authority(), site.clock.now())
        ends = x509.load_pem_x509_certificate(card.tls_ca.encode("ascii")).not_valid_after_utc
        return site.paths.card, format_time(ends)


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
