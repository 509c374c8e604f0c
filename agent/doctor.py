"""Looks at what a push needs: settings, identity, certificate, clock, trust, connection, kernel; each finding has a fix."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.identity import load_identity
from agent.session import now, open_session
from agent.settings import AgentSettings, load_settings
from carnet.chunking import kernel_name
from carnet.errors import CarnetError, Held, NotAuthorised
from carnet.flow.link import Timeouts
from carnet.identity import AgentIdentity
from carnet.timestamps import parse_time
from carnet.trust import Lane, LaneMode

_SOON = timedelta(days=14)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it stands; `error` says what is wrong with it, if something is, and what to do."""

    what: str
    said: str
    error: CarnetError | None = None

    @classmethod
    def failed(cls, what: str, error: CarnetError) -> "Finding":
        """Return the finding that `error` is."""
        return cls(what, error.problem, error)


async def examine(config: Path | None, timeouts: Timeouts) -> list[Finding]:
    """Return the findings, in an order in which each rests on those before; stops where nothing further can be looked at."""
    findings = [Finding("chunking kernel", kernel_name())]
    try:
        settings = load_settings(config)
    except CarnetError as error:
        return [*findings, Finding.failed("settings", error)]
    findings.append(Finding("settings", f"{settings.url}, site {settings.site}"))
    try:
        identity = load_identity(settings.identity_dir, root_fingerprint=settings.root_fingerprint)
    except CarnetError as error:
        return [*findings, Finding.failed("identity", error)]
    findings.append(Finding("identity", str(identity.id)))
    findings += [_certificate(identity), _trust(identity), *await _connection(settings, timeouts)]
    return findings


def _certificate(identity: AgentIdentity) -> Finding:
    leaf = identity.leaf
    if now() >= leaf.not_valid_after_utc:
        ended = f"ended at {leaf.not_valid_after_utc}"
        return Finding.failed("certificate", NotAuthorised("E-CERTIFICATE", ended, remedy="enrol again with a new invite"))
    if now() < leaf.not_valid_before_utc:
        return Finding.failed("certificate", Held("E-CLOCK", f"begins at {leaf.not_valid_before_utc}"))
    return Finding("certificate", f"until {leaf.not_valid_after_utc}, renews itself")


def _trust(identity: AgentIdentity) -> Finding:
    bundle = identity.trust.current
    expires, said = parse_time(bundle.expires), f"version {bundle.version} until {bundle.expires}"
    if now() >= expires:
        ended = f"version {bundle.version} expired at {bundle.expires}"
        return Finding.failed("trust bundle", Held("E-TRUST-EXPIRED", ended, remedy="import a newer one at the site"))
    if now() + _SOON >= expires:
        return Finding.failed("trust bundle", Held("E-TRUST-EXPIRED", said, remedy="have the roots sign the next one soon"))
    return Finding("trust bundle", said)


async def _connection(settings: AgentSettings, timeouts: Timeouts) -> list[Finding]:
    try:
        async with open_session(settings, connections=1, timeouts=timeouts) as session:
            lanes = session.bundle.lanes_from(session.site)
            said = ", ".join(f"{lane.name} to {'/'.join(lane.destinations)} ({lane.mode.value})" for lane in lanes)
            return [Finding("connection", f"{settings.url} answers; lanes: {said}"), *_pin(settings, lanes)]
    except CarnetError as error:
        return [Finding.failed("connection", error)]


def _pin(settings: AgentSettings, lanes: tuple[Lane, ...]) -> list[Finding]:
    """Look at what sealed lanes, if there are any, need of the settings."""
    sealed = ", ".join(lane.name for lane in lanes if lane.mode is LaneMode.SEALED)
    if not sealed:
        return []
    if settings.root_fingerprint is None:  # nothing is wrong with an agent that has no use for such a lane
        return [Finding("sealed lanes", f"nothing is sent on {sealed} until root_fingerprint is configured")]
    return [Finding("sealed lanes", f"{sealed}: the roots are those that are configured")]
