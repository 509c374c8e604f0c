"""Files of the log of a site that cannot be reached: asked of the relays between, who fetch them from it or from the next relay.

A log is public to the sites of its lanes and checked by hashes, so whoever brings a file need not be trusted.

Rules:      1. a relay asks only towards the site, along a route of the trust bundle, so that nothing goes in circles
            2. for whoever is not the neighbour on such a route there is nothing
"""

from carnet.errors import NotFound, Unavailable
from carnet.flow.client import PeerClient
from carnet.identifiers import SiteName, SpiffeId
from carnet.trust import TrustBundle
from gateway.services import Services


def towards(bundle: TrustBundle, here: SiteName, site: SiteName) -> list[tuple[SiteName | None, SiteName]]:
    """Return who stands before and after `here` on each route over relays that leads on to `site`, in either direction."""
    found: dict[tuple[SiteName | None, SiteName], None] = {}
    for lane in bundle.lanes:
        for route in lane.routes if here in lane.sites and site in lane.sites else ():
            for destination in lane.destinations if route.relays else ():
                way = (lane.origin, *route.relays, destination)
                for row in (way, way[::-1]):
                    if here in row and site in row[row.index(here) + 1 :]:
                        place = row.index(here)
                        found[(row[place - 1] if place else None, row[place + 1])] = None
    return list(found)


async def far_log_file(services: Services, client: PeerClient, site: SiteName, name: str) -> bytes:
    """Return a file of the log of `site`: from itself through `client`, or over the relays that lead to it.

    Where the lanes between know no direct way the relays are asked first: the site itself is most likely out of reach.

    Raises:
        NotFound: it has no such file. Unavailable: nobody on the way could be reached.
    """
    bundle = services.trust.ground()
    asked = [after for _, after in towards(bundle, services.site, site) if after != site]
    asked.insert(0 if _is_direct(bundle, services.site, site) else len(asked), site)
    for one in asked[:-1]:
        try:
            return await _ask(services, client, one, site, name)
        except (Unavailable, NotFound):
            continue
    return await _ask(services, client, asked[-1], site, name)


async def _ask(services: Services, client: PeerClient, asked: SiteName, site: SiteName, name: str) -> bytes:
    return await (client.log_file(name) if asked == site else services.peer(asked).far_log_file(site, name))


def _is_direct(bundle: TrustBundle, here: SiteName, site: SiteName) -> bool:
    """Tell whether the two stand beside each other on some route."""
    for lane in bundle.lanes:
        for route in lane.routes if here in lane.sites and site in lane.sites else ():
            for destination in lane.destinations:
                way = (lane.origin, *route.relays, destination)
                if {here, site} <= set(way) and abs(way.index(here) - way.index(site)) == 1:
                    return True
    return False


class FarLogs:
    """What a relay answers about the logs of the sites on its lanes."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def file(self, peer: SpiffeId, site: SiteName, name: str) -> bytes:
        """Return a file of the log of `site` for the neighbour that asks.

        Raises:
            NotFound: E-PATH-UNKNOWN if no route leads from the neighbour over here to `site`, or there is no such file.
        """
        services = self._services
        for before, after in towards(services.trust.ground(peer.site), services.site, site):
            if before == peer.site and after == site:
                return await services.peer(site).log_file(name)
            if before == peer.site:
                return await services.peer(after).far_log_file(site, name)
        raise NotFound("E-PATH-UNKNOWN", f"no log of {site} for you")
