"""How people write where things go: `[SITE:]repository:tag`, and which lane that means."""

from dataclasses import dataclass

from carnet.errors import CallerError, CarnetError, NotFound
from carnet.identifiers import Digest, LaneName, Repository, SiteName, Tag, TransferId
from carnet.trust import HOME_LANE, TrustBundle


@dataclass(frozen=True)
class Target:
    """A parsed `[SITE:]repository:tag`."""

    site: SiteName | None
    repository: Repository
    tag: Tag


def parse_target(text: str) -> Target:
    """Return the target; raise `CallerError` E-USAGE or E-NAME for anything else."""
    pieces = text.split(":")
    if len(pieces) == 2:  # noqa: PLR2004 - repository and tag
        return Target(None, Repository(pieces[0]), Tag(pieces[1]))
    if len(pieces) == 3:  # noqa: PLR2004 - site, repository and tag
        return Target(SiteName(pieces[0]), Repository(pieces[1]), Tag(pieces[2]))
    raise CallerError("E-USAGE", f"not [SITE:]repository:tag: {ascii(text)[:120]}", remedy="write it as app:v1 or eu:app:v1")


def parse_name(text: str) -> tuple[Repository, Tag]:
    """Return repository and tag of `repository:tag`; raise `CallerError` E-USAGE or E-NAME for anything else."""
    target = parse_target(text)
    if target.site is not None:
        raise CallerError(
            "E-USAGE", f"{ascii(text)[:120]} names a site; this is about the home site", remedy="write repository:tag"
        )
    return target.repository, target.tag


def parse_subject(text: str) -> TransferId | Digest | tuple[Repository, Tag]:
    """Return what `text` names: a transfer id, a digest or `repository:tag`; raise `CallerError` E-USAGE or E-NAME otherwise."""
    for kind in (TransferId, Digest):
        try:
            return kind(text)
        except CarnetError:
            continue
    return parse_name(text)


def lane_to(
    bundle: TrustBundle, home: SiteName, site: SiteName | None, lane: str | None
) -> tuple[LaneName, tuple[SiteName, ...]]:
    """Return lane and destinations: the home lane without a site, else the one lane that leads there.

    Raises:
        NotFound: E-LANE-UNKNOWN if no lane leads there. CallerError: E-USAGE if several do and none was
            named, or a lane without a site.
    """
    if site is None and lane not in (None, HOME_LANE):
        raise CallerError(
            "E-USAGE", f"--lane {ascii(lane)[:80]} leads to another site, and none is named", remedy="write SITE:repository:tag"
        )
    if site is None or (site == home and lane in (None, HOME_LANE)):
        return HOME_LANE, (home,)
    leading = [one for one in bundle.lanes_from(home) if site in one.destinations]
    if lane is not None:
        leading = [one for one in leading if one.name == lane]
    if not leading:
        ways = ", ".join(f"{one.name} to {'/'.join(one.destinations)}" for one in bundle.lanes_from(home))
        named = f"lane {lane}" if lane else "no lane"
        raise NotFound("E-LANE-UNKNOWN", f"{named} leads from {home} to {site}", remedy=f"lanes from {home}: {ways}")
    if len(leading) > 1:
        names = ", ".join(one.name for one in leading)
        raise CallerError("E-USAGE", f"several lanes lead from {home} to {site}: {names}", remedy="name one with --lane")
    return leading[0].name, (site,)
