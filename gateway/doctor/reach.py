"""What only others can tell: whether the site answers at its address, the process that serves it, its peers and their clocks."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from carnet.errors import CarnetError, IntegrityError, Unavailable
from carnet.flow.client import PeerClient
from carnet.flow.link import Timeouts
from carnet.flow.tls import ClientContext
from carnet.messages import RevocationResponse, TrustResponse
from carnet.release import site_recipient
from carnet.timestamps import parse_time
from carnet.trust import Site
from gateway.doctor.findings import Finding, fail, failed, ok, warn
from gateway.doctor.state import history_of
from gateway.offline import OfflineSite
from gateway.remembered import Remembered
from gateway.settings import GatewaySettings, parse_address
from gateway.sitedir import LOCK_NAME, SitePaths
from gateway.time_floor import APART, BEHIND

_ANSWER_S: Final = 5.0
_PATIENCE: Final = Timeouts(connect_s=3.0, read_s=_ANSWER_S, retry_s=0.0)
_OTHERS: Final = 0o077
_APART_SOME: Final = timedelta(seconds=30)


def server_process(paths: SitePaths) -> int | None:
    """Return the process that serves the site, or None; it holds a lock on a file in the directory."""
    try:
        status = (paths.root / LOCK_NAME).stat()
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    found = re.search(rf"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+{re.escape(place)}\s", locks)
    return int(found[1]) if found is not None else None


def examine_process(pid: int | None) -> Iterator[Finding]:
    """Yield what the serving process's own limits tell. Blocks."""
    if pid is None:
        return
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        yield warn("D-PROCESS", f"process {pid} cannot be looked at", "run doctor as the site's own user")
        return
    core = re.search(r"^Max core file size\s+(\S+)", limits, re.MULTILINE)
    umask = re.search(r"^Umask:\s+(\d+)", status, re.MULTILINE)
    wrong = False
    if core is not None and core[1] != "0":
        wrong = True
        yield warn(
            "D-PROCESS",
            f"process {pid} may write core dumps, with keys in them",
            f"prlimit --pid {pid} --core=0; LimitCORE=0 in its unit",
        )
    if umask is not None and int(umask[1], 8) & _OTHERS != _OTHERS:
        wrong = True
        yield warn("D-PROCESS", f"process {pid} has umask {umask[1]}", "UMask=0077 in its unit, and restart it")
    if not wrong:
        yield ok("D-PROCESS", f"process {pid}: no core dumps, umask 0077")


async def examine_listener(settings: GatewaySettings, paths: SitePaths, pid: int | None) -> Finding:
    """Return whether the site answers at its address, or, if it is stopped, whether it could listen there."""
    address = settings.listen[0]
    host, port = parse_address(address)
    if pid is None:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return warn("D-SERVES", f"the site is not served; {address} is free", f"carnet-gateway serve {paths.root}")
        return fail(
            "D-SERVES", f"the site is not served, and {address} cannot be listened on", f"ss -ltnp 'sport = :{port}'", status=5
        )
    if not port:
        return ok("D-SERVES", f"process {pid} serves, on a port of the system's choice")
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what is listened on, not listening
    try:
        async with asyncio.timeout(_ANSWER_S):
            _, writer = await asyncio.open_connection(target, port)
            writer.close()
    except (OSError, TimeoutError) as error:
        said = f"process {pid} holds the site, but {address} does not answer: {error.strerror or 'no answer in time'}"
        return fail("D-SERVES", said, "look at the server's log, and restart it", status=5)
    return ok("D-SERVES", f"process {pid} accepts connections at {address}")


async def examine_peers(site: OfflineSite) -> list[Finding]:
    """Return what each peer on the lanes of this site says: that it answers, what it has seen of our log, what time it is."""
    bundle = site.trust.current()
    own = site.settings.site
    names = {name for lane in bundle.lanes if own in lane.sites for name in lane.sites} if bundle is not None else set()
    peers = [known for known in bundle.sites if known.name in names - {own}] if bundle is not None else []
    asked = await asyncio.gather(*(_ask(site, peer) for peer in peers))
    findings = [finding for found, _ in asked for finding in found]
    offsets = [offset for _, offset in asked if offset is not None]
    return [*findings, _clock(site, offsets)]


async def _ask(site: OfflineSite, peer: Site) -> tuple[list[Finding], timedelta | None]:
    context = ClientContext(site.paths.tls_certificate, site.paths.tls_key, peer.tls_ca)
    gateway = site_recipient(site.settings.trust_domain, peer.name)
    client = PeerClient(list(peer.urls), context, gateway=gateway, connections=1, timeouts=_PATIENCE)
    try:
        async with asyncio.timeout(2 * _ANSWER_S):
            before = site.clock.now()
            heard: RevocationResponse = await client.revocations(0)
            offset = parse_time(heard.now) - before
            told = await client.trust()
    except (CarnetError, TimeoutError, OSError) as error:
        said = error.problem if isinstance(error, CarnetError) else "no answer"
        return [
            warn(
                "D-PEER",
                f"{peer.name} does not answer: {said}",
                f"carnet-gateway doctor DIR at {peer.name}; check the network to {peer.urls[0]}",
            )
        ], None
    finally:
        await client.close()
    return [ok("D-PEER", f"{peer.name} answers at {peer.urls[0]}"), await _compared(site, peer, told)], offset


async def _compared(site: OfflineSite, peer: Site, told: TrustResponse) -> Finding:
    try:
        history = history_of(site)
        if history is None:
            return ok("D-LOG-PEER", f"nothing is published for {peer.name} to have seen")
        await Remembered(site.settings.site, history, site.keyring().signing.public).compare(peer.name, told)
    except IntegrityError as error:
        return failed("D-LOG-PEER", error)
    except Unavailable as error:
        return failed("D-LOG-PEER", error)
    return ok("D-LOG-PEER", f"what {peer.name} has seen of the log is in it")


def _clock(site: OfflineSite, offsets: list[timedelta]) -> Finding:
    now, floor = site.clock.now(), site.trust.floor.moment
    fix = "timedatectl set-ntp true"
    if floor is not None and now < floor - BEHIND:
        return fail("D-CLOCK", f"the clock is {round((floor - now).total_seconds())} seconds behind the log", fix, status=3)
    if offsets and (min(offsets) > APART or max(offsets) < -APART):
        return fail(
            "D-CLOCK",
            f"the clock is {round(abs(min(offsets, key=abs)).total_seconds())} seconds from every peer's",
            fix,
            status=3,
        )
    worst = max((abs(offset) for offset in offsets), default=timedelta(0))
    if worst > _APART_SOME:
        return warn("D-CLOCK", f"the clock is {round(worst.total_seconds())} seconds from a peer's", fix)
    return ok("D-CLOCK", f"not behind the log, within {max(1, round(worst.total_seconds()))} s of {len(offsets)} peers")
