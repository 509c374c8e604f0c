"""`trust`: root keys, and the bundle on its way from proposal to import."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, new_app, wait_for
from carnet.trust import Route
from gateway.commands.keys import revoked
from gateway.commands.terminal import Directory

if TYPE_CHECKING:
    from carnet.envelope import Envelope
    from carnet.trust import Lane, TrustBundle

RootOption = Annotated[
    list[str] | None, typer.Option("--root", help="Public root key: a .pub file, its line, or 64 hex digits; may be repeated.")
]
_BEFORE_LINE = 3
"""Where `show` says how many of the roots before signed: below those of the bundle itself."""
Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="A proposal or a bundle.")]


def add_commands(app: typer.Typer) -> None:
    """Add these commands to the root."""
    group = new_app("The trust bundle: which sites, lanes and people there are, signed by offline roots.")
    group.command("new-root")(new_root)
    group.command("propose")(propose)
    group.command("sign")(sign)
    group.command("show")(show)
    group.command("import")(import_bundle)
    group.command("revoked")(revoked)
    app.add_typer(group, name="trust")


def new_root(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; the public one is FILE.pub.")],
    *,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a root key. Do it on a machine without a network and keep FILE there; only FILE.pub leaves it."""
    import secrets

    from carnet.errors import CallerError
    from carnet.keys import SigningKey, encode_private_key, encode_public_key
    from carnet.suites import KEY_BYTES
    from gateway.storage.durable import write_durable

    public = file.with_name(f"{file.name}.pub")
    if file.exists() or public.exists():
        raise CallerError("E-USAGE", f"{file} or {public} exists already", remedy="name another file; a key is never overwritten")
    key = SigningKey(secrets.token_bytes(KEY_BYTES))
    write_durable(file.absolute(), encode_private_key(key).encode("ascii"))
    write_durable(public.absolute(), encode_public_key(key.public).encode("ascii"))
    Terminal(json, quiet, verbose).done(
        {"key": str(file), "public": str(public), "keyid": key.public.keyid, "hex": key.public.hex},
        [f"root key {key.public.keyid}", f"private  {file}   (keep it offline)", f"public   {public}"],
    )


def propose(  # noqa: PLR0913 - a command's flags are its parameters
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the proposal goes.")],
    *,
    current: Annotated[Path | None, typer.Option("--from", help="The bundle that this one follows.")] = None,
    root: RootOption = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many roots must sign; all, if not given.")] = None,
    site: Annotated[list[Path] | None, typer.Option(help="A site's site-card.json; may be repeated.")] = None,
    lane: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=ORIGIN:DEST[,DEST]...[:MODE[:ROUTE[/ROUTE]...]]; MODE is inspected or sealed, ROUTE is direct or "
            "RELAY[+RELAY]...[@store], the first that works is taken; may be repeated."
        ),
    ] = None,
    person: Annotated[list[str] | None, typer.Option(help="NAME=PUBLIC-KEY:role[,role]...; may be repeated.")] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(
            help="LANE=ROLE:COUNT[,ROLE:COUNT]...: who must approve before a key leaves; or LANE=none. May be repeated."
        ),
    ] = None,
    new_role: Annotated[
        list[str] | None, typer.Option(help="A role that no bundle had before and that policies name; may be repeated.")
    ] = None,
    policy_owner: Annotated[
        list[str] | None,
        typer.Option(help="Somebody who signs policies, in place of those before; may be repeated. `none`: nobody need."),
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Site, lane or person to leave out; may be repeated.")] = None,
    expires: Annotated[int, typer.Option(metavar="DAYS", min=1, max=3650, help="Days until the bundle expires.")] = 90,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a proposal: a first bundle, or with --from one that follows and differs in what is given.

    Every root then signs the same file with `trust sign`, and each site imports it with `trust import`.
    """
    from datetime import UTC, datetime, timedelta

    from carnet.errors import CallerError
    from carnet.identifiers import AgentName
    from gateway import proposals
    from gateway.storage.durable import write_durable

    if out.exists():
        raise CallerError("E-USAGE", f"{out} exists already", remedy="name another file; a proposal may hold signatures")
    change = proposals.Change(
        roots=tuple(proposals.parse_public(text) for text in root or ()),
        threshold=threshold,
        cards=tuple(proposals.read_card(path) for path in site or ()),
        lanes=tuple(proposals.parse_lane(text) for text in lane or ()),
        people=tuple(proposals.parse_person(text) for text in person or ()),
        floors=tuple(proposals.parse_floor(text) for text in floor or ()),
        policy_owners=None if policy_owner is None else tuple(AgentName(name) for name in policy_owner if name != "none"),
        without=tuple(without or ()),
        life=timedelta(days=expires),
    )
    before = proposals.read_proposal(current)[1] if current else None
    proposals.check_roles(before, change, tuple(new_role or ()))
    bundle = proposals.propose(before, change, datetime.now(UTC))
    write_durable(out.absolute(), proposals.unsigned(bundle).encode() + b"\n")
    terminal = Terminal(json, quiet, verbose)
    for line in proposals.unmet_floors(bundle):
        terminal.note(f"{line}: its keys wait until a bundle names more")
    terminal.done(_document(bundle, 0), [f"proposal {bundle.version} is in {out}", *_lines(bundle, 0)])


def sign(
    file: Bundle,
    *,
    key: Annotated[Path, typer.Option(help="The root's private key file.")],
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add a root's signature to a proposal. Read `trust show FILE` first: you sign what it says."""
    from gateway import proposals
    from gateway.keyring import read_signing_key
    from gateway.storage.durable import write_durable

    envelope, bundle = proposals.read_proposal(file)
    root = read_signing_key(key, "trust new-root")
    signed = envelope.with_signature(root)
    write_durable(file.absolute(), signed.encode() + b"\n")
    count = len(proposals.signed_roots(signed, bundle))
    terminal = Terminal(json, quiet, verbose)
    if root.public not in bundle.roots.keys:
        terminal.note(f"key {root.public.keyid} is no root of this bundle; that is right only for a root of the bundle before")
    said = f"signed by {count} roots, {bundle.roots.threshold} are needed"
    if bundle.version > 1:
        said += f"; of the roots before, see `trust show {file} --from` the bundle before"
    terminal.done(_document(bundle, count), [said])


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="A proposal or bundle, or a site directory.")],
    *,
    current: Annotated[
        Path | None, typer.Option("--from", help="The bundle before: tells how many of its roots signed, who must, too.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show a proposal or a bundle, or what the site in DIR trusts now: roots, sites, lanes, people, until when."""
    from gateway import proposals

    if file.is_dir():
        envelope, bundle = wait_for(_trusted(file))
    else:
        envelope, bundle = proposals.read_proposal(file)
    count = len(proposals.signed_roots(envelope, bundle))
    document, lines = _document(bundle, count), _lines(bundle, count)
    if current is not None:
        before = proposals.read_proposal(current)[1]
        signed = len(proposals.signed_roots(envelope, before))
        document["signatures_before"], needed = signed, before.roots.threshold
        lines.insert(_BEFORE_LINE, f"before  signed by {signed} of the {needed} roots that the bundle before needs")
    Terminal(json, quiet, verbose).answer(document, lines)


def import_bundle(
    directory: Directory,
    file: Bundle,
    *,
    root_fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of the roots, got from their holders; pinned at the first import.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make the site in DIR trust a bundle, if the roots it trusts signed it. A running server follows within seconds.

    The first import pins the roots: compare the fingerprint with their holders, or give it with --root-fingerprint.
    """
    bundle, is_first = wait_for(_import(directory, file, root_fingerprint))
    terminal = Terminal(json, quiet, verbose)
    if is_first and root_fingerprint is None:
        terminal.note(f"pinned roots {bundle.roots.fingerprint}: compare this with the holders of the root keys")
    terminal.done(
        _document(bundle, bundle.roots.threshold), [f"trust bundle {bundle.version} is in force until {bundle.expires}"]
    )


async def _import(directory: Path, file: Path, root_fingerprint: str | None) -> "tuple[TrustBundle, bool]":
    from carnet.errors import IntegrityError
    from carnet.identifiers import Digest
    from gateway.offline import open_site
    from gateway.proposals import read_proposal, signed_roots

    envelope, proposed = read_proposal(file)
    signed, needed = len(signed_roots(envelope, proposed)), proposed.roots.threshold
    if signed < needed:
        raise IntegrityError(
            "E-SIGNATURE",
            f"{file} is signed by {signed} of its roots, {needed} are needed",
            remedy=f"have the holders of root keys run `carnet-gateway trust sign {file} --key ROOT-KEY`",
        )
    pinned = Digest(root_fingerprint) if root_fingerprint else None
    async with open_site(directory) as site:
        is_first = site.trust.current() is None
        bundle = await site.trust.import_bundle(envelope.encode(), root_fingerprint=pinned)
        pending = site.paths.proposal
        if pending.exists():
            pending.unlink()  # it was imported, or the bundle it followed is no longer the current one
        return bundle, is_first


async def _trusted(directory: Path) -> "tuple[Envelope, TrustBundle]":
    from gateway.offline import open_site

    async with open_site(directory) as site:
        return site.trust.bundle_envelope(), site.trust.state().current


def _document(bundle: "TrustBundle", signatures: int) -> dict[str, Any]:
    return {"bundle": bundle.to_json(), "digest": bundle.digest, "roots": bundle.roots.fingerprint, "signatures": signatures}


def _lines(bundle: "TrustBundle", signatures: int) -> list[str]:
    """Return what people compare before they sign or import."""
    roots = f"{bundle.roots.threshold} of {len(bundle.roots.keys)}"
    lines = [
        f"trust bundle {bundle.version} of {bundle.trust_domain}, {bundle.issued} to {bundle.expires}",
        f"digest  {bundle.digest}",
        f"roots   {bundle.roots.fingerprint}  {roots}, signed by {signatures}",
    ]
    lines += [f"root    {key.keyid}  {key.hex}" for key in bundle.roots.keys]
    lines += [
        f"site    {one.name}  {one.jurisdiction}  {one.operator}  {one.signing_key.hex}  {' '.join(one.urls)}"
        for one in bundle.sites
    ]
    lines += [lane_line(lane) for lane in bundle.lanes]
    lines += [f"person  {one.name}  {','.join(one.roles)}  {' '.join(key.hex for key in one.keys)}" for one in bundle.people]
    lines += [f"owners  {', '.join(bundle.policy_owners)}: two of them sign a policy"] if bundle.policy_owners else []
    return lines


def lane_line(lane: "Lane") -> str:
    """Return one lane as a person reads it."""
    from carnet.approval import described, floor_needs

    relays = f"  {' or '.join(_route(route) for route in lane.routes)}" if lane.relays else ""
    needs = described(floor_needs(lane.release_floor))
    cosigned = f"  {lane.release_floor.cosignatures} cosignatures" if lane.release_floor.cosignatures else ""
    asks = f"  approvals: {needs}" if needs else ""
    return f"lane    {lane.name}  {lane.origin} -> {','.join(lane.destinations)}  {lane.mode.value}{relays}{asks}{cosigned}"


def _route(route: Route) -> str:
    return f"over {','.join(route.relays)} ({route.carriage})" if route.relays else "direct"
