"""T10: whoever runs the origin of a sealed lane substitutes keys, calls the lane inspected, seals anew; nothing opens to them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.envelope import Envelope, parse_envelope
from carnet.errors import CallerError, CarnetError, IntegrityError, Unavailable
from carnet.flow.client import PeerClient
from carnet.identifiers import Digest
from carnet.keys import KemPrivateKey, SigningKey
from carnet.messages import ForwardRequest, KeyReleaseMessage, SiteMessage, TrustResponse
from carnet.packing import PackingList
from carnet.release import site_recipient
from carnet.timestamps import format_time
from carnet.trust import KemStatement, LaneMode, TrustBundle
from carnet.waybill import Waybill
from gateway.commands.agents import _revoke
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from tests.attacks.parties import Peers, noise, now, peers_of
from tests.crossing.sites import POLICIES, ROOT_KEY, ROOTS, LiveSite, World, know_each_other, make_template, world_from

WAITS = {"classification": "internal", "purpose": "wait-at-release"}
SEALED = "us-eu=us:eu:sealed"
INSPECTED = "us-eu=us:eu"


@pytest.fixture(scope="module")
def sealed_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sites, with a sealed lane between them."""
    root = tmp_path_factory.mktemp("t10")
    asyncio.run(make_template(root, SEALED))
    return root


@pytest.fixture
async def sealed(sealed_template: Path, tmp_path: Path) -> AsyncIterator[World]:
    """Both sites, running."""
    async with world_from(sealed_template, tmp_path / "world") as running:
        running.us.root_fingerprint = ROOTS
        yield running


@pytest.fixture
async def keys(sealed: World) -> AsyncIterator[Peers]:
    """What whoever holds the keys of one site can say to the other."""
    async with peers_of(sealed) as found:
        yield found


def statement(key: SigningKey, number: int) -> Envelope:
    """Return a KEM statement in the name of eu, signed by `key`, for a KEM key of the attacker."""
    said = KemStatement(
        site="eu", suite=1, number=number, key=KemPrivateKey(bytes(32)).public,
        not_before=format_time(now() - timedelta(minutes=1)), not_after=format_time(now() + timedelta(days=1)),
    )  # fmt: skip
    return said.sign(key)


def lying_about_trust(monkeypatch: pytest.MonkeyPatch, **said: object) -> None:
    """Let the gateway answer GET /v1/trust with these members in the place of its own."""
    honest = PeerClient.trust

    async def trust(self: PeerClient) -> TrustResponse:
        return (await honest(self)).model_copy(update=said)

    monkeypatch.setattr(PeerClient, "trust", trust)


async def next_bundle(site: LiveSite, lane: str, key: SigningKey = ROOT_KEY) -> Envelope:
    """Return the bundle that follows the site's, with that lane, signed by `key`."""
    async with open_site(site.directory) as opened:
        current = opened.trust.current()
    return sign_proposal(unsigned(propose(current, Change(lanes=(parse_lane(lane),)), datetime.now(UTC))), key)


async def import_at(site: LiveSite, envelope: Envelope) -> None:
    async with open_site(site.directory) as opened:
        await opened.trust.import_bundle(envelope.encode(), root_fingerprint=None)


async def restarted_with(world: World, envelope: Envelope) -> None:
    """Let both sites run under another bundle."""
    for site in (world.us, world.eu):
        await site.stop()
        await import_at(site, envelope)
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)


@pytest.mark.parametrize("signer", ["us", "nobody"])
async def test_a_kem_key_that_the_destination_did_not_sign_is_left_out(
    sealed: World, keys: Peers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, signer: str
) -> None:
    forged = statement(keys.keys["us"] if signer == "us" else SigningKey(bytes(32)), 9)
    async with open_session(sealed.us.agent) as session:
        true = session.kem_key(sealed.eu.name)
        known = await session.client.trust()
    lying_about_trust(monkeypatch, kem_statements=(*known.kem_statements, forged.to_json()))
    async with open_session(sealed.us.agent) as session:
        assert session.kem_key(sealed.eu.name) == true
    lying_about_trust(monkeypatch, kem_statements=(forged.to_json(),))
    with pytest.raises(Unavailable, match="E-UNREACHABLE"):
        await sealed.push(f"file:{noise(tmp_path / 'a', 100_000)}", "eu:team/app:v1")

    assert sealed.us.stored() == []


async def test_a_bundle_that_the_gateway_altered_or_signed_itself_is_refused(
    sealed: World, keys: Peers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = f"file:{noise(tmp_path / 'a', 100_000)}"
    async with open_session(sealed.us.agent) as session:
        true = parse_envelope((await session.client.trust()).bundle)
    bundle = TrustBundle.read_unverified(true)
    lane = replace_mode(bundle, LaneMode.INSPECTED)
    altered = Envelope(true.payload_type, lane.payload(), true.signatures)
    others = await next_bundle(sealed.us, INSPECTED, keys.keys["us"])
    for told in (altered, others):
        lying_about_trust(monkeypatch, bundle=told.to_json())
        with pytest.raises(IntegrityError, match="E-SIGNATURE"):
            await sealed.push(source, "eu:team/app:v1")

    assert sealed.us.stored() == []


def replace_mode(bundle: TrustBundle, mode: LaneMode) -> TrustBundle:
    """Return the bundle with its lanes of that mode, under the next version."""
    lanes = tuple(lane.model_copy(update={"mode": mode}) for lane in bundle.lanes)
    return bundle.model_copy(update={"lanes": lanes, "version": bundle.version + 1})


async def test_an_older_bundle_in_which_the_lane_was_inspected_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with open_session(world.us.agent) as session:
        older = (await session.client.trust()).bundle
    await restarted_with(world, await next_bundle(world.us, SEALED))
    world.us.root_fingerprint = ROOTS
    await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:team/app:v1", sealed=True)
    stored = set(world.us.stored())
    lying_about_trust(monkeypatch, bundle=older)

    with pytest.raises(IntegrityError, match=r"not newer than 2.*E-TRUST"):
        await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:team/app:v2")
    assert set(world.us.stored()) == stored


async def test_an_agent_that_was_enrolled_under_roots_of_the_gateways_making_sends_nothing(world: World, tmp_path: Path) -> None:
    """The invite named the roots, so the agent pinned them; what the owner configured is something else, or nothing."""
    source = f"file:{noise(tmp_path / 'a', 1000)}"
    world.us.root_fingerprint = Digest.of(b"the roots that the owner knows")
    with pytest.raises(IntegrityError, match="E-TRUST"):
        await world.push(source, "eu:team/app:v1", sealed=True)
    world.us.root_fingerprint = None
    with pytest.raises(CallerError, match="E-NOT-PINNED"):
        await world.push(source, "eu:team/app:v1", sealed=True)
    world.us.root_fingerprint = ROOTS
    with pytest.raises(CallerError, match="E-LANE-MODE"):
        await world.push(source, "eu:team/app:v1", sealed=True)

    assert world.us.stored() == []


def sealed_anew(peers: Peers, request: ForwardRequest, key: SigningKey, **changes: object) -> ForwardRequest:
    """Return the declaration with another packing list for the same waybill, signed by `key`, and an offer that fits it."""
    told, decision = peers.retold(request)
    waybill = Waybill.read_unverified(parse_envelope(told.waybill))
    packing = PackingList.read_unverified(parse_envelope(told.packing_list)).model_copy(update=changes)
    offer = peers.forged(decision.model_copy(update={"packing": packing.digest, "waybill": waybill.digest}))
    return told.model_copy(update={"packing_list": packing.sign(key).to_json(), "offer": offer})


async def test_the_destination_refuses_what_the_origin_sealed_anew(sealed: World, keys: Peers, tmp_path: Path) -> None:
    result = await sealed.push(f"file:{noise(tmp_path / 'a', 200_000)}", "eu:team/app:v1")
    request = await keys.declared(result.view.transfer)
    own = keys.keys["us"]
    site = site_recipient(keys.domain, sealed.us.name)
    attempts = {
        "by the site, in its name": (sealed_anew(keys, request, own, sealer=site), "E-LANE-MODE"),
        "by the site, in the agent's name": (sealed_anew(keys, request, own), "E-SIGNATURE"),
        "by the agent, but for the site too": (sealed_anew(keys, request, keys.agent_key, sites=("eu", "us")), "E-LANE-MODE"),
        "by the agent, but in the site's name": (sealed_anew(keys, request, keys.agent_key, sealer=site), "E-LANE-MODE"),
    }
    for name, (told, code) in attempts.items():
        with pytest.raises(IntegrityError) as caught:
            await keys.clients["us"].forward_declare(told)
        assert caught.value.code == code, name
    async with open_site(sealed.eu.directory) as opened:
        known = await opened.catalog.read(lambda tx: [tx.transfer(told.transfer) for told, _ in attempts.values()])
    assert known == [None] * len(attempts)


async def test_the_same_seal_by_the_site_is_a_seal_on_an_inspected_lane(world: World, peers: Peers, tmp_path: Path) -> None:
    """So it is the lane's mode that refuses it above: here it fails later, at the log that was made up."""
    result = await world.push(f"file:{noise(tmp_path / 'a', 200_000)}", "eu:team/app:v1")
    request = await peers.declared(result.view.transfer)
    told = sealed_anew(peers, request, peers.keys["us"], sealer=site_recipient(peers.domain, world.us.name))
    with pytest.raises(IntegrityError) as caught:
        await peers.clients["us"].forward_declare(told)

    assert caught.value.code in {"E-PROOF", "E-LOG"}


async def test_what_was_sealed_for_the_other_mode_is_neither_released_nor_opened(world: World, tmp_path: Path) -> None:
    result = await world.push(f"file:{noise(tmp_path / 'a', 200_000)}", "eu:team/app:v1", declare=WAITS)
    assert result.view.deliveries[0].state == "release-hold"
    await restarted_with(world, await next_bundle(world.us, SEALED))
    async with peers_of(world) as peers:
        # A key that comes all the same, whatever decision and proof are with it.
        step = (await peers.declared(result.view.transfer)).offer
        message = KeyReleaseMessage(number=0, release=await peers.release(result.view.transfer), step=step)
        with pytest.raises(IntegrityError, match="E-LANE-MODE"):
            await peers.clients["us"].message(result.view.transfer, SiteMessage(body=message))
    async with open_session(world.us.agent, connections=1) as session:
        await session.client.retry(result.view.transfer)
        view = await session.client.wait(result.view.transfer, lambda view: view.deliveries[0].state != "release-hold", 20)

    assert view.deliveries[0].state == "release-deny"
    assert view.deliveries[0].reasons[0].rule == "lane-mode"


async def test_the_site_takes_no_commit_that_gives_it_a_key_or_gives_the_destination_none(sealed: World, tmp_path: Path) -> None:
    from tests.attacks.parties import Lie, lying
    from tests.crossing.sites import push_in

    source = f"file:{noise(tmp_path / 'a', 1000)}"
    for sites in (("eu", "us"), ("us",)):
        async with open_session(sealed.us.agent) as session:
            lie = Lie(packing=lambda packing, sites=sites: packing.model_copy(update={"sites": sites}))
            with pytest.raises(CarnetError, match="E-LANE-MODE"):
                await push_in(lying(session, lie), source, "eu:team/app:v1", fresh=True)


async def test_a_revoked_agents_key_stays_where_it_is(sealed: World, tmp_path: Path) -> None:
    result = await sealed.push(f"file:{noise(tmp_path / 'a', 200_000)}", "eu:team/app:v1", declare=WAITS)
    await _revoke(sealed.us.directory, "agent", "key-stolen")
    await sealed.us.stop()
    sealed.us.set_policy(POLICIES["us"].replace("{purpose: wait-at-release}", "{purpose: nothing}"))
    async with open_site(sealed.us.directory) as opened:
        await opened.catalog.write(lambda tx: tx.queue_job("release", f"{result.view.transfer}/eu"))
    await sealed.us.start()

    async def rules() -> list[object]:
        async with open_site(sealed.us.directory) as opened:
            [delivery] = await opened.catalog.read(lambda tx: tx.deliveries(result.view.transfer))
        assert delivery.state == "release-hold"
        return [reason["rule"] for reason in delivery.reasons]

    async with asyncio.timeout(60):
        while "revoked" not in await rules():
            await asyncio.sleep(0.05)
    async with open_site(sealed.eu.directory) as opened:
        assert await opened.catalog.read(lambda tx: tx.artifact_key(result.view.transfer)) is None
