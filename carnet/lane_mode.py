"""What a lane's mode means for a packing list: who may seal, and which sites get a key.

On an inspected lane the originator seals, or the origin site does, and the origin gets a key. On a sealed lane only the
originator seals and no key is for the origin. Every party asks this of its own trust bundle and of nobody else.

Rules:      1. the sealer is who signed, and may seal on this lane  2. the packing list seals this waybill
            3. its sites are the destinations, and the origin on inspected lanes only
Spec:       docs/statements.md section "Packing list"; DESIGN sections 4.7 and 4.8
Example:    >>> lane = Lane(name="us-eu", origin="us", destinations=("eu",), mode=LaneMode.SEALED, suites=(1,))
            >>> keyholders(lane, lane.destinations)
            ('eu',)
"""

from collections.abc import Iterable

from carnet.envelope import Envelope
from carnet.errors import IntegrityError
from carnet.identifiers import SiteName
from carnet.keys import VerifyingKey
from carnet.packing import PackingList
from carnet.release import site_recipient
from carnet.trust import Lane, LaneMode, TrustBundle
from carnet.waybill import Waybill


def keyholders(lane: Lane, destinations: Iterable[SiteName]) -> tuple[SiteName, ...]:
    """Return the sites that get a key for what goes to `destinations` on `lane`, sorted."""
    origin = {lane.origin} if lane.mode is LaneMode.INSPECTED else set()
    return tuple(sorted({*destinations, *origin}))


def open_packing(envelope: Envelope, waybill: Waybill, originator: VerifyingKey, bundle: TrustBundle) -> PackingList:
    """Return the packing list of `waybill`, which the caller has verified as signed by `originator` (rules 1 and 2).

    Raises:
        NotFound: E-LANE-UNKNOWN, E-SITE-UNKNOWN. PeerError: E-FORMAT.
        IntegrityError: E-LANE-MODE if the origin site sealed it on a sealed lane, E-SIGNATURE for whatever else is not right.
    """
    lane, origin = bundle.lane(waybill.lane, waybill.origin.site), bundle.site(waybill.origin.site)
    site = site_recipient(bundle.trust_domain, origin.name)
    claimed = PackingList.read_unverified(envelope)
    if claimed.sealer == waybill.origin.agent:
        packing = PackingList.open(envelope, [originator])
    elif claimed.sealer == site and lane.mode is LaneMode.INSPECTED:
        packing = PackingList.open(envelope, [origin.signing_key])
    elif claimed.sealer == site:
        raise IntegrityError("E-LANE-MODE", f"{origin.name} sealed transfer {waybill.transfer} anew; lane {lane.name} is sealed")
    else:
        raise IntegrityError("E-SIGNATURE", f"{claimed.sealer} may not seal what {waybill.origin.agent} sends")
    if (packing.transfer, packing.waybill) != (waybill.transfer, waybill.digest):
        raise IntegrityError("E-SIGNATURE", f"packing list of {packing.transfer} seals another waybill")
    return packing


def require_mode(packing: PackingList, lane: Lane, destinations: Iterable[SiteName]) -> None:
    """Return if the packing list goes to the keyholders of `lane` (rule 3).

    Raises:
        IntegrityError: E-LANE-MODE if it was made for another mode, E-SIGNATURE if it goes to other destinations.
    """
    expected = keyholders(lane, destinations)
    if set(packing.sites) == set(expected):
        return
    if {*packing.sites, lane.origin} == {*expected, lane.origin}:
        raise IntegrityError(
            "E-LANE-MODE",
            f"transfer {packing.transfer} was sealed for {', '.join(packing.sites)}, lane {lane.name} is {lane.mode.value}",
        )
    raise IntegrityError(
        "E-SIGNATURE", f"packing list of {packing.transfer} goes to {', '.join(packing.sites)}, not as the lane does"
    )
