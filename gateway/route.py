"""Which way a transfer goes from one site to another: the first route of its lane that has not failed lately.

At the origin the trust bundle's routes are tried in their order. A route whose passage failed rests for a while; the alarm about
it is in the log, and if no route is left the delivery says which relay did what. At the destination answers go back the way that
the origin spoke last.

Rules:      1. only routes of the lane, as the trust bundle has it now  2. a passage that is open goes on while its route exists
            3. no route left is a temporary condition that names the relays
"""

from dataclasses import dataclass
from datetime import timedelta

from carnet.errors import Unavailable
from carnet.identifiers import SiteName, TransferId
from carnet.trust import Lane, Route
from gateway.courier import Direct, Line
from gateway.passage_records import PassageRecord
from gateway.passages.line import Relayed
from gateway.passages.steps import begin_passage
from gateway.ports import Transaction
from gateway.records import JobRecord, TransferRecord
from gateway.services import Services

_RETRY_S = 5


@dataclass(frozen=True)
class _Choice:
    """A passage, or the direct way."""

    passage: PassageRecord | None = None


class Routes:
    """Implements `Courier`."""

    def __init__(self, services: Services) -> None:
        """Use the site's services; their own courier is not asked."""
        self._services = services

    async def line(self, transfer: TransferId, site: SiteName, job: JobRecord) -> Line:
        """Return a line to `site`; see `Courier`.

        Raises:
            Unavailable: E-RELAY if every route rests; names the relays. Held, IntegrityError: as `Trust.ground`.
        """
        services = self._services
        bundle = services.trust.ground()

        def choose(tx: Transaction) -> _Choice:
            record = tx.transfer(transfer)
            if record is None or record.role == "destination":
                return _way_back(tx, transfer, site)
            return self._way_there(tx, record, bundle.lane(record.lane, services.site), site)

        passage = (await services.catalog.write(choose)).passage
        if passage is None:
            return Direct(services.peer(site), services.store, transfer)
        return Relayed(services, passage, job)

    def _way_there(self, tx: Transaction, record: TransferRecord, lane: Lane, site: SiteName) -> _Choice:
        """Return the passage that is open, or one over the next route, at the origin."""
        passages = [one for one in tx.passages_of(record.id) if one.role == "start" and one.way[-1] == site]
        for passage in passages:
            if passage.state == "open" and Route(relays=passage.way[1:-1], carriage=passage.carriage) in lane.routes:
                return _Choice(passage)
        since = tx.now - timedelta(seconds=self._services.bounds.route_rest_s)
        resting = {one.way[1:-1]: one.alarm for one in tx.failed_passages(lane.name, since) if one.way[-1] == site}
        for route in lane.routes:
            if not route.relays:
                return _Choice()
            if route.relays not in resting:
                return _Choice(begin_passage(tx, self._services, record.id, lane.name, route, site))
        told = "; ".join(f"{', '.join(relays)}: {why}" for relays, why in resting.items())
        raise Unavailable("E-RELAY", f"no route of lane {lane.name} is left: {told}", retry_after_s=_RETRY_S)


def _way_back(tx: Transaction, transfer: TransferId, site: SiteName) -> _Choice:
    """Return the newest passage on which `site` spoke, at the destination; the direct way if it never used one."""
    passages = [one for one in tx.passages_of(transfer) if one.role == "end" and one.way[0] == site]
    for passage in passages:
        if passage.state == "open":
            return _Choice(passage)
    if passages:
        over = ", ".join(passages[0].way[1:-1])
        problem = f"the passage over {over} is over; {site} is answered when it speaks again"
        raise Unavailable("E-RELAY", problem, retry_after_s=_RETRY_S)
    return _Choice()
