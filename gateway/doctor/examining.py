"""The examination: all findings, in an order in which each rests on those before; what cannot be looked at is told."""

import asyncio
from pathlib import Path

from carnet.errors import CarnetError
from gateway.doctor.files import examine_files
from gateway.doctor.findings import Finding, failed, ok
from gateway.doctor.reach import examine_listener, examine_peers, examine_process, server_process
from gateway.doctor.state import examine_state
from gateway.offline import open_site
from gateway.settings import load_settings
from gateway.sitedir import SitePaths


async def examine(directory: Path) -> list[Finding]:
    """Return the findings about the site in `directory`, which may be served meanwhile; nothing is changed."""
    try:
        settings = load_settings(directory)
    except CarnetError as error:
        return [failed("D-CONFIG", error)]
    paths = SitePaths(settings.data_dir)
    pid = server_process(paths)
    findings = [ok("D-CONFIG", f"site {settings.site}, {settings.url}")]
    findings += await asyncio.to_thread(lambda: [*examine_files(settings, paths), *examine_process(pid)])
    findings.append(await examine_listener(settings, paths, pid))
    try:
        async with open_site(directory) as site:
            findings += [finding async for finding in examine_state(site, runs=pid is not None)]
            findings += await examine_peers(site)
    except CarnetError as error:
        findings.append(failed("D-ROWS" if error.code == "E-ROW" else "D-DATABASE", error))
    return findings
