"""What an agent asks of a lane before it seals: the mode is that of its own trust bundle, under roots that its owner configured.

A site hands out the bundle and could hand out one of other roots to an agent that pinned what an invite said. So for a sealed
lane, and when the person insists on one, the roots' fingerprint must stand in the agent's own configuration.
"""

from agent.session import Session
from carnet.errors import CallerError
from carnet.identifiers import LaneName
from carnet.trust import Lane, LaneMode


def lane_for(session: Session, name: LaneName, *, sealed: bool = False) -> Lane:
    """Return the lane to push on; `sealed` insists that it is a sealed one.

    Raises:
        NotFound: E-LANE-UNKNOWN.
        CallerError: E-NOT-PINNED for a sealed lane without configured roots, E-LANE-MODE for one that is not sealed.
    """
    lane = session.bundle.lane(name, session.site)
    if (sealed or lane.mode is LaneMode.SEALED) and session.settings.root_fingerprint is None:
        what = f"lane {lane.name} is sealed" if lane.mode is LaneMode.SEALED else "--sealed insists on the lane's mode"
        raise CallerError("E-NOT-PINNED", f"{what}, but no root_fingerprint is configured: the site's word is not enough")
    if sealed and lane.mode is not LaneMode.SEALED:
        problem = f"lane {lane.name} is {lane.mode.value} in trust bundle {session.bundle.version}: {lane.origin} can open it"
        raise CallerError(
            "E-LANE-MODE", problem, remedy="name a sealed lane with --lane; `carnet doctor` lists them with their modes"
        )
    return lane
