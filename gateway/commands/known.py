"""`agent show`, `site list`, `site show`, `lane show`: what a site knows about one of each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from carnet.flow.commandline import Json, Quiet, Terminal, Verbose, wait_for
from gateway.commands.terminal import Directory
from gateway.commands.trust import lane_line

if TYPE_CHECKING:
    from carnet.trust import Lane, Site, TrustBundle
    from gateway.records import IdentityRecord
    from gateway.revocation_marks import Mark

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="The site's name in the trust bundle.")]
LaneArgument = Annotated[str, typer.Argument(metavar="LANE", help="The lane's name in the trust bundle.")]
AgentArgument = Annotated[str, typer.Argument(metavar="NAME", help="The agent's name, as `agent list` shows it.")]
_TRANSFERS_SHOWN: Final = 10


def show_agent(
    directory: Directory, name: AgentArgument, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Show agent NAME: what it may do, its statement, until when each; invites that are open, what it has unfinished."""
    document = wait_for(_agent(directory, name))
    lines = [
        f"agent      {document['identity']}",
        f"enrolled   {document['enrolled'] or 'not yet'}",
        *([f"revoked    {document['revoked']['since']} ({document['revoked']['reason']})"] if document["revoked"] else []),
        *(f"may        {grant}" for grant in marked(document["grants"], document["ended"])),
        *(
            [f"statement  until {document['statement_ends']}, signing key {document['signing_key']}"]
            if document["signing_key"]
            else []
        ),
        *(f"invite     open until {ends}" for ends in document["open_invites"]),
        f"unfinished {len(document['unfinished'])} transfers, {document['unfinished_bytes']} bytes",
        *(f"           {transfer}" for transfer in document["unfinished"]),
    ]
    Terminal(json, quiet, verbose).answer(document, lines)


def list_sites(directory: Directory, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the sites of the trust bundle in force, and those of a pending proposal that are new or differ."""
    current, pending = wait_for(both_bundles(directory))
    sites = current.sites if current else ()
    waiting = tuple(site for site in pending.sites if site not in sites) if pending else ()
    lines = [_site_line(site) for site in sites] + [f"{_site_line(site)}  (proposed, not signed)" for site in waiting]
    document = {"sites": [_site_document(site) for site in sites], "proposed": [_site_document(site) for site in waiting]}
    Terminal(json, quiet, verbose).answer(document, lines or ["no trust bundle yet"])


def show_site(
    directory: Directory, site: SiteArgument, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Show SITE as the trust bundle names it, and what this site has heard of it: KEM key, revocation set, log head."""
    document = wait_for(_site(directory, site))
    lines = [f"{name.replace('_', ' '):15} {_text(value)}" for name, value in document.items() if value]
    Terminal(json, quiet, verbose).answer(document, lines)


def show_lane(
    directory: Directory, lane: LaneArgument, *, json: Json = False, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Show LANE: mode, relays, suites, release floor, and whether this site has what it needs of each destination."""
    found, ready = wait_for(_lane(directory, lane))
    lines = [lane_line(found), f"suites  {', '.join(map(str, found.suites))}"]
    lines += [f"ready   {site}: {'yes' if is_ready else 'no, its KEM key is not known here'}" for site, is_ready in ready.items()]
    Terminal(json, quiet, verbose).answer({**found.to_json(), "ready": ready}, lines)


def marked(grants: list[str], ended: list[str]) -> list[str]:
    """Return the grants as lines show them: those that have ended say so."""
    return [f"{grant} (ended)" if grant in ended else grant for grant in grants]


async def _agent(directory: Path, name: str) -> dict[str, Any]:
    from carnet.errors import CallerError
    from carnet.identifiers import AgentName, SpiffeId
    from gateway.grants import ended
    from gateway.offline import open_site
    from gateway.ports import Transaction
    from gateway.revocation_marks import mark_of

    async with open_site(directory) as site:
        identity = SpiffeId.make(site.settings.trust_domain, site.settings.site, "agent", AgentName(name))

        def read(tx: Transaction) -> dict[str, Any]:
            record = tx.identity(identity)
            invites = [invite for invite in tx.open_invites(identity) if invite.expires_at > tx.now]
            if record is None and not invites:
                remedy = f"see who is: carnet-gateway agent list {directory}"
                raise CallerError("E-USAGE", f"no agent {name} is enrolled here, nor invited", remedy=remedy)
            unfinished = tx.transfers(sender=identity, states=("declared", "receiving"), limit=_TRANSFERS_SHOWN)
            return {
                "identity": identity,
                **_enrolled(record, mark_of(tx, identity)),
                "ended": [] if record is None else ended(record.grants, site.trust.floor.judged(tx.now)),
                "open_invites": [_moment(invite.expires_at) for invite in invites],
                "unfinished": [record.id for record in unfinished],
                "unfinished_bytes": tx.unfinished_bytes(identity),
            }

        return await site.catalog.read(read)


def _enrolled(record: "IdentityRecord | None", mark: "Mark | None") -> dict[str, Any]:
    from carnet.envelope import parse_envelope
    from carnet.trust import AgentStatement

    is_revoked = mark is not None and mark.is_revoked
    statement = None
    if record is not None and record.statement is not None:
        statement = AgentStatement.read_unverified(parse_envelope(record.statement))
    return {
        "enrolled": _moment(record.enrolled_at) if record is not None else None,
        "grants": list(record.grants) if record is not None else [],
        "revoked": {"since": mark.since, "reason": mark.reason} if mark is not None and is_revoked else None,
        "statement_ends": statement.not_after if statement is not None else None,
        "signing_key": statement.signing_key.hex if statement is not None else None,
    }


async def both_bundles(directory: Path) -> "tuple[TrustBundle | None, TrustBundle | None]":
    """Return the bundle in force and the pending proposal."""
    from gateway.offline import open_site
    from gateway.proposals import read_proposal

    async with open_site(directory) as site:
        pending = read_proposal(site.paths.proposal)[1] if site.paths.proposal.exists() else None
        return site.trust.current(), pending


async def _site(directory: Path, name: str) -> dict[str, Any]:
    from carnet.identifiers import SiteName
    from gateway.offline import open_site

    async with open_site(directory) as site:
        bundle = site.trust.state().current
        entry = bundle.site(SiteName(name))
        kem = site.trust.newest_kem(entry.name, site.clock.now())
        revocations = site.trust.revocations.state.sets.get(entry.name)
        heads = await site.catalog.read(lambda tx: tx.site_documents("checkpoint/"))
        head = heads.get(f"checkpoint/{entry.name}")
        return {
            **_site_document(entry),
            "lanes": [lane.name for lane in bundle.lanes if entry.name in lane.sites],
            "kem_key": None if kem is None else {"number": kem.number, "ends": kem.not_after},
            "revocation_set": None
            if revocations is None
            else {"number": revocations.content.number, "ends": revocations.content.expires},
            "log_entries_seen": None if head is None else int(head.split(b"\n", 2)[1]),
        }


async def _lane(directory: Path, name: str) -> "tuple[Lane, dict[str, bool]]":
    from carnet.errors import NotFound
    from gateway.offline import open_site

    async with open_site(directory) as site:
        bundle, now = site.trust.state().current, site.clock.now()
        found = next((lane for lane in bundle.lanes if lane.name == name), None)
        if found is None:
            raise NotFound("E-LANE-UNKNOWN", f"no lane {ascii(name)[:80]} in trust bundle {bundle.version}")
        return found, {site_name: site.trust.newest_kem(site_name, now) is not None for site_name in found.destinations}


def _site_line(site: "Site") -> str:
    return f"site    {site.name}  {site.jurisdiction}  {site.operator}  {' '.join(site.urls)}  key {site.signing_key.keyid}"


def _site_document(site: "Site") -> dict[str, Any]:
    return {
        "site": site.name,
        "jurisdiction": site.jurisdiction,
        "operator": site.operator,
        "urls": list(site.urls),
        "signing_key": site.signing_key.hex,
    }


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _moment(moment: Any) -> str | None:
    from carnet.timestamps import format_time

    return None if moment is None else format_time(moment)
