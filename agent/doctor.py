"""Looks at what a push needs: settings, identity, certificate, clock, trust, connection, kernel; each finding has a fix."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent.identity import load_identity
from agent.session import now, open_session
from agent.settings import AgentSettings, load_settings
from carnet.chunking import kernel_name
from carnet.errors import CarnetError
from carnet.identity import AgentIdentity
from carnet.timestamps import parse_time
from carnet.trust import Lane, LaneMode

_SOON = timedelta(days=14)


@dataclass(frozen=True)
class Finding:
    """One thing looked at: how it stands, and what to do if it is not good."""

    what: str
    is_good: bool
    said: str
    fix: str = ""


async def examine(config: Path | None) -> list[Finding]:
    """Return the findings, in an order in which each rests on those before; stops where nothing further can be looked at."""
    findings = [Finding("chunking kernel", True, kernel_name())]
    try:
        settings = load_settings(config)
    except CarnetError as error:
        return [*findings, Finding("settings", False, error.problem, error.remedy)]
    findings.append(Finding("settings", True, f"{settings.url}, site {settings.site}"))
    try:
        identity = load_identity(settings.identity_dir, root_fingerprint=settings.root_fingerprint)
    except CarnetError as error:
        return [*findings, Finding("identity", False, error.problem, error.remedy)]
    findings.append(Finding("identity", True, str(identity.id)))
    findings += [_certificate(identity), _trust(identity), *await _connection(settings)]
    return findings


def _certificate(identity: AgentIdentity) -> Finding:
    leaf = identity.leaf
    if now() >= leaf.not_valid_after_utc:
        return Finding("certificate", False, f"ended at {leaf.not_valid_after_utc}", "enrol again with a new invite")
    if now() < leaf.not_valid_before_utc:
        return Finding("certificate", False, f"begins at {leaf.not_valid_before_utc}", "set the clock of this machine")
    return Finding("certificate", True, f"until {leaf.not_valid_after_utc}, renews itself")


def _trust(identity: AgentIdentity) -> Finding:
    bundle = identity.trust.current
    expires = parse_time(bundle.expires)
    if now() >= expires:
        return Finding(
            "trust bundle", False, f"version {bundle.version} expired at {bundle.expires}", "import a newer one at the site"
        )
    if now() + _SOON >= expires:
        return Finding(
            "trust bundle", False, f"version {bundle.version} expires at {bundle.expires}", "have the roots sign the next one"
        )
    return Finding("trust bundle", True, f"version {bundle.version} until {bundle.expires}")


async def _connection(settings: AgentSettings) -> list[Finding]:
    try:
        async with open_session(settings, connections=1) as session:
            lanes = session.bundle.lanes_from(session.site)
            said = ", ".join(f"{lane.name} to {'/'.join(lane.destinations)} ({lane.mode.value})" for lane in lanes)
            return [Finding("connection", True, f"{settings.url} answers; lanes: {said}"), *_pin(settings, lanes)]
    except CarnetError as error:
        return [Finding("connection", False, error.problem, error.remedy)]


def _pin(settings: AgentSettings, lanes: tuple[Lane, ...]) -> list[Finding]:
    """Look at what sealed lanes, if there are any, need of the settings."""
    sealed = ", ".join(lane.name for lane in lanes if lane.mode is LaneMode.SEALED)
    if not sealed:
        return []
    if settings.root_fingerprint is None:  # nothing is wrong with an agent that has no use for such a lane
        return [Finding("sealed lanes", True, f"nothing is sent on {sealed} until root_fingerprint is configured")]
    return [Finding("sealed lanes", True, f"{sealed}: the roots are those that are configured")]
