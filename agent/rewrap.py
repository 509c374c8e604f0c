"""Wraps the key of a committed transfer again, for a destination that no longer holds the KEM key it was wrapped to.

On a sealed lane nobody else can. The agent opens the key that it released to itself and wraps it to the destination's newest key;
nothing is read or sent again.
"""

from agent.bases import verify_sealed
from agent.session import Session, with_newest_keys
from carnet.errors import IntegrityError
from carnet.identifiers import SiteName
from carnet.messages import RewrapRequest, TransferView
from carnet.release import make_release, site_recipient
from carnet.trust import LaneMode


def due(session: Session, view: TransferView) -> tuple[SiteName, ...]:
    """Return the destinations that wait for a new wrap by this agent; on inspected lanes the site makes them."""
    if view.role != "origin" or view.identity != session.identity.id:
        return ()
    waiting = tuple(one.destination for one in view.deliveries if one.state == "needs-rewrap")
    is_ours = bool(waiting) and session.bundle.lane(view.lane, session.site).mode is LaneMode.SEALED
    return waiting if is_ours else ()


async def rewrap(session: Session, view: TransferView) -> TransferView:
    """Wrap the key for each destination that waits for it, and return how the transfer stands then.

    Raises:
        IntegrityError: what the site handed out is not what we sealed. Unavailable: no newer key of a destination is known.
    """
    session = await with_newest_keys(session)
    own = verify_sealed(session, await session.client.sealed(view.transfer))
    waiting = due(session, view)
    if own.packing.transfer != view.transfer or not set(waiting) <= set(own.packing.sites):
        raise IntegrityError("E-SIGNATURE", f"the site hands out transfer {own.packing.transfer}, asked for {view.transfer}")
    releases = []
    for site in waiting:
        number, key = session.kem_key(site)
        recipient = site_recipient(session.bundle.trust_domain, site)
        releases.append(make_release(own.packing, own.artifact_key, recipient=recipient, key_number=number, public=key))
    return await session.client.rewrap(view.transfer, RewrapRequest(releases=tuple(releases)))
