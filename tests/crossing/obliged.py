"""Policies whose rules carry obligations, and the duties that come of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carnet.fulfilment import Fulfilment
from carnet.messages import TransferView
from carnet.timestamps import format_time
from gateway.duties import KeptDuty, all_duties, fulfil
from gateway.offline import open_site
from tests.crossing.officers import KEYS
from tests.crossing.sites import LiveSite, World
from tests.promises.kills import noise

ALLOW = """
apiVersion: carnet/policy/v1
metadata: {{id: {site}, version: 1, owner: the tests}}
rules:
  - id: all
    at: [offer, release, receipt]
    effect: allow
    reason: in order
    obligations: [{obligations}]
"""
HOLD = """
  - id: two
    at: [release]
    effect: hold
    reason: somebody decides
    remedy: they approve
    approvals: [{role: security}]
"""


def policy(site: str, *obligations: str) -> str:
    return ALLOW.format(site=site, obligations=", ".join(obligations))


def one(kind: str, parameters: str = "") -> str:
    return f"{{kind: {kind}, parameters: {{{parameters}}}}}"


async def push(world: World, tmp_path: Path, number: int = 1, **changes) -> TransferView:
    source = noise(tmp_path / f"{number}", 3000, number)
    return (await world.push(f"file:{source}", f"eu:app:v{number}", **changes)).view


async def duties(site: LiveSite) -> list[KeptDuty]:
    async with open_site(site.directory) as opened:
        return await opened.catalog.read(all_duties)


async def make_late(site: LiveSite, duty: KeptDuty) -> None:
    """Let a duty have been due an hour ago."""
    from dataclasses import replace

    from gateway import duties as module

    async with open_site(site.directory) as opened:

        def change(tx):
            past = replace(duty, due=format_time(datetime.now(UTC) - timedelta(hours=1)))
            for name in module._open_names(duty):
                tx.delete_site_document(name)
            for name in module._open_names(past):
                tx.put_site_document(name, duty.id.encode())
            module._keep(tx, past)

        await opened.catalog.write(change)


def signed(duty: KeptDuty, person: str, role: str, *, key: str = "", **changes):
    fields = {"site": "us", "duty": duty.id, "person": person, "role": role, "note": "done", "at": format_time(datetime.now(UTC))}
    return Fulfilment.model_validate(fields | changes).sign(KEYS[key or person])


async def close(at_site: LiveSite, duty: KeptDuty, person: str, role: str, **changes) -> None:
    envelope = signed(duty, person, role, **changes)
    async with open_site(at_site.directory) as opened:
        bundle, now = opened.trust.state().current, datetime.now(UTC)
        await opened.catalog.write(lambda tx: fulfil(tx, at_site.name, envelope, bundle, now=now, revoked=frozenset()))


async def refuse(at_site: LiveSite, duty: KeptDuty, person: str, role: str, error, words: str, **changes) -> None:
    with pytest.raises(error, match=words):
        await close(at_site, duty, person, role, **changes)
