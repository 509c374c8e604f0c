"""Wraps a key again, once a destination said that it does not hold the KEM key that it was wrapped to, or has taken it back.

The delivery is `needs-rewrap` until a release to the destination's newest key is here; then `release` is decided again, for that
key, and no segment is sent again. On inspected lanes this site wraps, as soon as it knows the newer key. On sealed lanes it
cannot: the agent fetches what it sealed, opens it with its own key, and hands in the new release.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from carnet.entries import EntryType
from carnet.errors import CarnetError, NotFound, PeerError, Unavailable
from carnet.identifiers import SiteName, SpiffeId, TransferId
from carnet.messages import ReasonView, RewrapRequest, SealedArtifact
from carnet.packing import PackingList
from carnet.release import KeyRelease, make_release, site_recipient
from carnet.transfer import DELIVERY, may, step
from carnet.trust import KemStatement
from gateway import documents
from gateway.deciding import require_signer
from gateway.forward import parse_delivery_key
from gateway.ownership import own_transfer
from gateway.ports import Transaction
from gateway.records import DeliveryRecord, JobRecord
from gateway.rewrapping import kept_release
from gateway.sealed_artifacts import sealed_artifact
from gateway.services import Services


class NeedsRewrap:
    """Handles `rewrap` jobs, for `<transfer>/<destination>`, and what agents ask."""

    def __init__(self, services: Services) -> None:
        """Use the site's services."""
        self._services = services

    async def asked(self, transfer: TransferId, destination: SiteName, problem: str) -> None:
        """Note that the destination cannot use the key it was sent; wrap it again in the same step if this site can."""
        release = await self._wrapped_again(transfer, destination)

        def change(tx: Transaction) -> None:
            _ask(tx, self._services, transfer, destination, problem)
            if release is not None:
                _keep(tx, self._services, transfer, [release])

        await self._services.catalog.write(change)

    async def run(self, job: JobRecord) -> None:
        """Wrap again what waits for it, once a newer key of the destination is known.

        Raises:
            Unavailable: E-UNREACHABLE while none is; the job is tried again.
        """
        transfer, destination = parse_delivery_key(job.key)
        services = self._services
        waits, can_open = await services.catalog.read(
            lambda tx: (_waiting(tx, transfer, destination) is not None, tx.artifact_key(transfer) is not None)
        )
        if not waits or not can_open:
            return
        release = await self._wrapped_again(transfer, destination)
        if release is None:
            raise _no_newer(destination)
        await services.catalog.write(lambda tx: _keep(tx, services, transfer, [release]))

    async def _wrapped_again(self, transfer: TransferId, destination: SiteName) -> KeyRelease | None:
        """Return the key wrapped to the destination's newest key; None if this site cannot open it, or knows no newer key."""
        services = self._services

        def look(tx: Transaction) -> tuple[PackingList, bytes | None, str]:
            return (
                documents.read_packing(tx, transfer),
                tx.artifact_key(transfer),
                kept_release(tx, services, transfer, destination).key_digest,
            )

        packing, sealed_key, last = await services.catalog.read(look)
        newest = await self._newer_than(last, destination)  # asked for on sealed lanes too: the agent learns it from this site
        if sealed_key is None or newest is None:
            return None
        key = services.keyring.open(sealed_key, transfer.raw)
        recipient = site_recipient(services.trust_domain, destination)
        return make_release(packing, key, recipient=recipient, key_number=newest.number, public=newest.key)

    async def _newer_than(self, last: str, destination: SiteName) -> KemStatement | None:
        """Return the destination's newest KEM statement if it is of another key than `last`; it is asked for one if need be."""
        services = self._services
        known = services.trust.newest_kem(destination, services.clock.now())
        if known is None or known.key.digest == last:
            with suppress(CarnetError):  # it is asked at intervals as well
                await services.trust.learn(await services.peer(destination).trust())
            known = services.trust.newest_kem(destination, services.clock.now())
        return None if known is None or known.key.digest == last else known

    async def sealed(self, identity: SpiffeId, transfer: TransferId) -> SealedArtifact:
        """Return what the agent sealed itself, to wrap its key again; raise `NotFound` E-TRANSFER-UNKNOWN if it is not there."""

        def read(tx: Transaction) -> SealedArtifact:
            found = sealed_artifact(tx, own_transfer(tx, identity, transfer), identity)
            if found is None:
                raise NotFound("E-TRANSFER-UNKNOWN", f"transfer {transfer} was not committed, or its keys are gone")
            return found

        return await self._services.catalog.read(read)

    async def take(self, identity: SpiffeId, transfer: TransferId, request: RewrapRequest) -> None:
        """Take the agent's new releases, for destinations that wait for one; `release` is decided again for each.

        Raises:
            PeerError: E-KEY-RELEASE for a release that no destination waits for, or to another key than its newest.
            Unavailable: E-UNREACHABLE while no newer key of the destination is known here.
            NotAuthorised: E-NOT-ALLOWED, E-REVOKED. NotFound: E-TRANSFER-UNKNOWN.
        """
        services = self._services

        def look(tx: Transaction) -> dict[SiteName, str]:
            record = own_transfer(tx, identity, transfer)
            services.access.require(tx.identity(identity), "push", record.repository, record.lane)
            require_signer(tx, services, transfer)
            waiting = [one.destination for one in tx.deliveries(transfer) if may(DELIVERY, one.state, "rewrapped")]
            return {site: kept_release(tx, services, transfer, site).key_digest for site in waiting}

        waiting = await services.catalog.read(look)
        sites = {site_recipient(services.trust_domain, site): site for site in waiting}
        for release in request.releases:
            site = sites.get(release.recipient)
            if site is None:
                raise PeerError("E-KEY-RELEASE", f"no delivery of {transfer} waits for a key for {release.recipient}")
            newest = await self._newer_than(waiting[site], site)
            if newest is None:
                raise _no_newer(site)
            if (release.key_number, release.key_digest) != (newest.number, newest.key.digest):
                said = f"the release for {site} is to key {release.key_number}, its newest is {newest.number}"
                raise PeerError("E-KEY-RELEASE", said, remedy="run the command again: it wraps to the newest key")
        await services.catalog.write(lambda tx: _keep(tx, services, transfer, request.releases))


def _ask(tx: Transaction, services: Services, transfer: TransferId, destination: SiteName, problem: str) -> None:
    for delivery in tx.deliveries(transfer):
        if delivery.destination != destination or not may(DELIVERY, delivery.state, "rewrap"):
            continue
        opens = tx.artifact_key(transfer) is not None
        remedy = f"wait: {services.site} wraps it again" if opens else f"run `carnet transfer retry {transfer}` as its sender"
        reason = ReasonView(rule="rewrap", outcome="hold", text=problem, remedy=remedy)
        tx.save_delivery(
            replace(
                delivery,
                state=step(DELIVERY, delivery.state, "rewrap"),
                state_at=tx.now,
                reasons=(reason.model_dump(mode="json"),),
                error=None,
            )
        )
        # What was sent opens nothing there: the next sending is another one, logged again under the new key.
        tx.delete_document(transfer, documents.key_sent_name(destination))
        old = kept_release(tx, services, transfer, destination).key_digest
        tx.append(EntryType.REWRAP_ASKED, {"transfer": transfer, "destination": destination, "key": old})
        tx.queue_job("rewrap", f"{transfer}/{destination}")


def _keep(tx: Transaction, services: Services, transfer: TransferId, releases: Sequence[KeyRelease]) -> None:
    """Put each release in the place of the one that is of no use, and let it be decided again."""
    for release in releases:
        delivery = _waiting(tx, transfer, release.recipient.site)
        if delivery is None or release.key_digest == kept_release(tx, services, transfer, delivery.destination).key_digest:
            continue
        tx.put_document(transfer, documents.release_name(release.recipient), release.encode())
        tx.put_document(
            transfer, documents.rewraps_name(delivery.destination), b"%d" % (rewraps(tx, transfer, delivery.destination) + 1)
        )
        state = step(DELIVERY, delivery.state, "rewrapped")
        tx.save_delivery(replace(delivery, state=state, state_at=tx.now, reasons=(), error=None))
        tx.append(EntryType.KEY_REWRAPPED, {"transfer": transfer, "recipient": release.recipient, "key": release.key_digest})
        tx.queue_job("release", f"{transfer}/{delivery.destination}")


def rewraps(tx: Transaction, transfer: TransferId, destination: SiteName) -> int:
    """Return how often the key was wrapped again for this destination."""
    return int(tx.document(transfer, documents.rewraps_name(destination)) or 0)


def _waiting(tx: Transaction, transfer: TransferId, destination: SiteName) -> DeliveryRecord | None:
    found = [one for one in tx.deliveries(transfer) if one.destination == destination and may(DELIVERY, one.state, "rewrapped")]
    return found[0] if found else None


def _no_newer(destination: SiteName) -> Unavailable:
    problem = f"no newer KEM key of {destination} is known here yet"
    return Unavailable(
        "E-UNREACHABLE", problem, remedy=f"check that the gateway of {destination} runs, then run the command again"
    )
