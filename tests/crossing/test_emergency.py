"""The emergency pack on real sites: a patch in an incident goes by two persons, is counted, told of, reviewed and deleted."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from carnet.attestation import Attestation
from carnet.identifiers import LaneName
from carnet.licence import Licence
from carnet.messages import TransferView
from carnet.timestamps import format_time
from carnet.trust import Person
from gateway.doctor.obliged import examine_duties
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from gateway.vouched import keep_attestation, keep_licence
from tests.crossing.obliged import close, duties, make_late
from tests.crossing.officers import KEYS, PEOPLE, ROOT_KEY, approve
from tests.crossing.sites import LiveSite, World
from tests.promises.kills import noise

HOME = """
  - {id: home, at: [release, receipt], when: {lane: home}, effect: allow, reason: within the site}
"""
TODAY = datetime.now(UTC).date()
CHIEF = Person(name="spare", roles=("management", "incident-commander"), keys=(KEYS["spare"].public,))
OTHERS = tuple(person for person in PEOPLE if person.name != "dora")  # whose second key is the chief's here


@pytest.fixture
async def incident(cold_world: World) -> World:
    pack = files("gateway").joinpath("data/packs/emergency-patch.yaml").read_text("utf-8")
    for site in cold_world.sites:
        site.set_policy(pack + HOME)
        async with open_site(site.directory) as opened:
            change = Change(lanes=(parse_lane("emergency=us:eu"),), people=(*OTHERS, CHIEF))
            bundle = propose(opened.trust.current(), change, datetime.now(UTC))
            await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)
    for site in cold_world.sites:
        await vouch(site, "carol", "screened", {"site": "eu"}, {"screening.band": "none"})
    await vouch(cold_world.eu, "bob", "signed", {"repository": "app"}, {"provenance.signer_set": "release-builders"})
    licence = Licence.model_validate(
        {
            "id": "EMERGENCY-2026",
            "edition": 1,
            "kind": "EMERGENCY",
            "valid_from": str(TODAY - timedelta(days=1)),
            "valid_until": str(TODAY + timedelta(days=30)),
            "quantity": 2,
            "shares": [{"site": "us", "quantity": 2}],
        }
    )
    async with open_site(cold_world.us.directory) as opened:
        await opened.catalog.write(lambda tx: keep_licence(tx, licence.sign(KEYS["spare"])))
    await cold_world.start()
    return cold_world


async def vouch(site: LiveSite, who: str, name: str, about: dict[str, str], facts: dict[str, str]) -> None:
    now = datetime.now(UTC)
    paper = Attestation.model_validate(
        {
            "id": name,
            "edition": 1,
            "about": about,
            "facts": facts,
            "at": format_time(now - timedelta(hours=1)),
            "not_after": format_time(now + timedelta(days=9)),
        }
    )
    async with open_site(site.directory) as opened:
        await opened.catalog.write(lambda tx: keep_attestation(tx, paper.sign(KEYS[who])))


async def send(world: World, tmp_path: Path, number: int) -> TransferView:
    said = {
        "classification": "internal",
        "purpose": "incident-response",
        "licence": "EMERGENCY-2026",
        "labels": {"incident": "INC-2026-117"},
    }
    source = f"file:{noise(tmp_path / f'{number}', 3000, number)}"
    return (await world.push(source, f"eu:app:v{number}", kind="patch", declare=said, lane=LaneName("emergency"))).view


async def released(world: World, view: TransferView) -> TransferView:
    await approve(world, view.transfer, "bob", "security")
    await approve(world, view.transfer, "spare", "incident-commander")
    return await world.until(view.transfer, lambda one: one.deliveries[0].state == "delivered")


async def test_a_patch_goes_by_the_word_of_two_is_told_of_and_waits_for_its_review(incident: World, tmp_path: Path) -> None:
    held = await send(incident, tmp_path, 1)
    assert held.deliveries[0].state == "release-hold"
    assert held.deliveries[0].approvals is not None
    assert {need.role for need in held.deliveries[0].approvals.needed} == {"security", "incident-commander"}

    await released(incident, held)
    await incident.pull(incident.eu, "app:v1", f"file:{tmp_path / 'out'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "1").read_bytes()
    for site in incident.sites:
        assert [duty.words for duty in await duties(site)] == ["notify by anybody", "review by security"]
        async with open_site(site.directory) as opened:
            assert [one.severity.value for one in await opened.catalog.read(lambda tx: list(examine_duties(tx)))] == ["warn"] * 2


async def test_emergencies_are_counted(incident: World, tmp_path: Path) -> None:
    for number in (1, 2):
        await released(incident, await send(incident, tmp_path, number))
    [third] = (await send(incident, tmp_path, 3)).deliveries

    assert (third.state, third.reasons[0].rule) == ("release-deny", "emer-021")


async def test_a_review_that_is_late_stops_the_next_emergency_until_somebody_else_did_it(incident: World, tmp_path: Path) -> None:
    await released(incident, await send(incident, tmp_path, 1))
    [review] = [duty for duty in await duties(incident.us) if duty.kind == "review"]
    await make_late(incident.us, review)
    late = await send(incident, tmp_path, 2)
    [review] = [duty for duty in await duties(incident.us) if duty.kind == "review"]
    await close(incident.us, review, "olga", "security")

    assert (late.deliveries[0].state, late.deliveries[0].reasons[0].rule) == ("offer-hold", "emer-022")
    await released(incident, await send(incident, tmp_path, 3))
