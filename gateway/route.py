"""Which way a transfer goes from one site to another: today the direct one, whatever the lane."""

from carnet.identifiers import SiteName, TransferId
from gateway.courier import Direct, Line
from gateway.peers import Peers
from gateway.ports import BlobReader
from gateway.records import JobRecord


class Routes:
    """Implements `Courier`."""

    def __init__(self, peers: Peers, store: BlobReader) -> None:
        """Take the clients of the other sites, and the store that segments are read from."""
        self._peers = peers
        self._store = store

    async def line(self, transfer: TransferId, site: SiteName, job: JobRecord) -> Line:  # noqa: ARG002 - no answer is awaited
        """Return a line to `site`; see `Courier`."""
        return Direct(self._peers.client(site), self._store, transfer)
