"""A lane that asks for two people: ciphertext waits abroad, two sign, and the artifact arrives by its key alone."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent.push import Wait
from agent.session import open_session
from carnet.approval import Verdict
from carnet.decision import Decision
from carnet.errors import Conflict, NotAuthorised, NotFound
from carnet.identifiers import SiteName
from carnet.timestamps import format_time, parse_time
from carnet.trust import ReleaseFloor
from gateway import documents
from gateway.offline import open_site
from gateway.proposals import sign_proposal, unsigned
from tests.attacks.parties import new_agent
from tests.crossing.officers import ROOT_KEY, appoint, appoint_both, approve, asked, hand_in, request_of, signed
from tests.crossing.sites import POLICIES, World, know_each_other
from tests.promises.kills import noise


async def opened(world: World, **changes):
    """Start both sites with the officers appointed."""
    await appoint_both(world, **changes)
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)


def asks_anew(view, old):
    """Tell whether another request than `old` is open."""
    asked_now = view.deliveries[0].approvals
    return asked_now is not None and asked_now.request != old.digest


async def documents_at(site, transfer, prefix):
    async with open_site(site.directory) as found:
        return await found.catalog.read(lambda tx: tx.documents(transfer, prefix))


async def test_ciphertext_waits_abroad_until_two_people_approved_then_the_key_alone_crosses(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    source = noise(tmp_path / "patch", 300_000)

    held = (await world.push(f"file:{source}", "eu:patch:v1", kind="patch")).view
    abroad = len(world.eu.stored())
    [delivery] = held.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("release-hold", "release-floor")
    assert f"carnet approve {held.transfer} --to eu" in delivery.reasons[0].remedy
    assert delivery.approvals is not None
    assert {one.role: one.people for one in delivery.approvals.needed} == {
        "export-control": ("ada", "carol", "dora", "olga"),
        "security": ("ada", "bob", "dora", "olga"),
    }
    assert abroad > 0

    first = await approve(world, held.transfer, "carol", "export-control")
    [waiting] = first.deliveries
    assert waiting.state == "release-hold"
    assert waiting.approvals is not None
    assert [(one.role, one.given) for one in waiting.approvals.needed] == [("export-control", 1), ("security", 0)]

    await approve(world, held.transfer, "bob", "security", reason="the change is reviewed")
    done = await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")
    assert len(world.eu.stored()) == abroad
    assert done.deliveries[0].approvals is None
    await world.pull(world.eu, "patch:v1", f"file:{tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    for site in (world.us, world.eu):
        kept = await documents_at(site, held.transfer, "approval/")
        assert sorted(name.rsplit("/", 1)[1] for name in kept) == ["bob", "carol"]


async def test_a_rejection_ends_the_delivery_with_who_and_why(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view

    await approve(world, held.transfer, "carol", "export-control")
    await approve(world, held.transfer, "bob", "security", verdict=Verdict.REJECT, reason="not this week")
    ended = await world.until(held.transfer, lambda view: view.deliveries[0].state == "release-deny")

    [delivery] = ended.deliveries
    assert (delivery.reasons[0].rule, delivery.reasons[0].text) == ("rejected", "rejected by bob (security): not this week")
    assert (await world.until(held.transfer, lambda _: True)).deliveries[0].approvals is None
    with pytest.raises(Conflict) as late:
        await hand_in(world, held.transfer, signed(request_of_last(held, delivery), "ada", "security"))
    assert late.value.code == "E-APPROVALS"


def request_of_last(view, delivery):
    """A request that nothing has open any more: any digest will do."""
    from tests.carnet.test_approval import request

    return request(transfer=view.transfer, destinations=(delivery.destination,), hold_changes={"transfer": view.transfer})


async def test_looking_again_does_not_void_what_was_approved(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    before = request_of(await asked(world, held.transfer))
    await approve(world, held.transfer, "carol", "export-control")

    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
    await world.us.stop()
    await world.us.start()
    await know_each_other(world)
    assert request_of(await asked(world, held.transfer)).digest == before.digest

    await approve(world, held.transfer, "bob", "security")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


async def test_a_change_of_policy_voids_what_was_approved(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    await approve(world, held.transfer, "carol", "export-control")
    old = request_of(await asked(world, held.transfer))
    await world.us.stop()
    world.us.set_policy(POLICIES["us"].replace("version: 1", "version: 2"))
    await world.us.start()
    await know_each_other(world)

    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
        view = await session.client.wait(held.transfer, lambda one: asks_anew(one, old), 20)
    assert view.deliveries[0].approvals.given == ()
    with pytest.raises(Conflict):
        await hand_in(world, held.transfer, signed(old, "bob", "security"))


async def test_a_new_trust_bundle_voids_what_was_approved_before_the_key_leaves(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    await approve(world, held.transfer, "carol", "export-control")
    await world.us.stop()
    await appoint(world.us)
    await world.us.start()
    await know_each_other(world)
    await world.eu.stop()
    await appoint(world.eu)
    await world.eu.start()

    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
        await session.client.wait(
            held.transfer, lambda one: one.deliveries[0].approvals is not None and one.deliveries[0].approvals.given == (), 20
        )
    await approve(world, held.transfer, "carol", "export-control")
    await approve(world, held.transfer, "bob", "security")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


async def test_whoever_may_approve_sees_the_transfer_and_whoever_may_not_does_not(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    officer = await new_agent(world.us, "officer", "approve:app*@us-eu")
    other = await new_agent(world.us, "other", "approve:elsewhere*@us-eu", "push:*@*")

    request = request_of(await asked(world, held.transfer, officer))
    await hand_in(world, held.transfer, signed(request, "bob", "security"), officer)
    async with open_session(officer, connections=1) as session:
        assert (await session.client.show(held.transfer)).transfer == held.transfer
        assert [one.transfer for one in (await session.client.list()).transfers] == [held.transfer]
        with pytest.raises(NotFound):
            await session.client.cancel(held.transfer)
    async with open_session(other, connections=1) as session:
        assert (await session.client.list()).transfers == ()
    for step in (
        asked(world, held.transfer, other),
        hand_in(world, held.transfer, signed(request, "carol", "export-control"), other),
    ):
        with pytest.raises(NotFound):
            await step


async def test_a_person_answers_once_and_the_same_answer_again_changes_nothing(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    request = request_of(await asked(world, held.transfer))
    said = signed(request, "dora", "security")

    assert await hand_in(world, held.transfer, said) == await hand_in(world, held.transfer, said)
    with pytest.raises(Conflict) as again:
        await hand_in(world, held.transfer, signed(request, "dora", "export-control", key="spare"))
    assert again.value.code == "E-STATE"
    with pytest.raises(NotAuthorised):
        await hand_in(world, held.transfer, signed(request, "bob", "export-control"))


POLICY_THAT_ASKS = (
    POLICIES["us"]
    + """
  - id: patches-need-a-look
    at: [release]
    when: {lane: us-eu, purpose: patched}
    effect: hold
    reason: a patch needs a second look
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
  - id: look-before-anything-leaves
    at: [offer]
    when: {lane: us-eu, purpose: look-first}
    effect: hold
    reason: look first
    remedy: have export control approve it
    approvals: [{role: export-control}]
  - id: no-ciphertext-ahead
    at: [offer]
    when: {lane: us-eu, purpose: kept-back}
    effect: allow
    reason: nothing of it waits abroad
    obligations: [{kind: no-prefetch}]
"""
)


def declared(purpose):
    return {"classification": "internal", "purpose": purpose}


async def test_a_rule_that_asks_for_approvals_is_satisfied_by_them(cold_world, tmp_path):
    world = cold_world
    world.us.set_policy(POLICY_THAT_ASKS)
    await opened(world, floor=())
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=declared("patched"))).view
    [delivery] = held.deliveries
    assert [one.rule for one in delivery.reasons] == ["approvals", "patches-need-a-look"]

    await approve(world, held.transfer, "bob", "security")
    await approve(world, held.transfer, "ada", "security")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


async def test_a_rule_that_holds_without_naming_approvals_is_not_satisfied_by_any(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=declared("wait-at-release"))).view

    async with open_session(world.us.agent) as session:
        assert (await session.client.approval_requests(held.transfer)).requests == ()
    assert held.deliveries[0].approvals is None
    assert held.deliveries[0].reasons[0].rule == "key-waits"


async def test_a_floor_of_cosignatures_holds_at_both_ends_whatever_people_approve(cold_world, tmp_path):
    world = cold_world
    await opened(world, cosignatures=1)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    assert held.deliveries[0].reasons[0].rule == "release-floor"
    async with open_session(world.us.agent) as session:
        assert (await session.client.approval_requests(held.transfer)).requests == ()

    await world.us.stop()
    async with open_site(world.us.directory) as site:
        current = site.trust.state().current
        lanes = (current.lane("us-eu").model_copy(update={"release_floor": ReleaseFloor()}),)
        lax = current.model_copy(update={"version": current.version + 1, "lanes": lanes})
        await site.trust.import_bundle(sign_proposal(unsigned(lax), ROOT_KEY).encode(), root_fingerprint=None)
    await world.eu.stop()
    await appoint(world.eu, floor=(), cosignatures=1)
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)
    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
        view = await session.client.wait(held.transfer, lambda one: bool(one.deliveries[0].error), 20)
    assert "E-HELD" in view.deliveries[0].error


async def test_an_offer_that_asks_for_approval_sends_nothing_before_it(cold_world, tmp_path):
    world = cold_world
    world.us.set_policy(POLICY_THAT_ASKS)
    await opened(world, floor=())
    held = (
        await world.push(
            f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=declared("look-first"), wait=Wait.DECIDED
        )
    ).view  # fmt: skip
    assert held.deliveries[0].state == "offer-hold"
    assert world.eu.stored() == []

    await approve(world, held.transfer, "carol", "export-control")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


async def test_where_policy_forbids_prefetch_the_people_are_asked_before_ciphertext_leaves(cold_world, tmp_path):
    world = cold_world
    world.us.set_policy(POLICY_THAT_ASKS)
    await opened(world)
    held = (
        await world.push(
            f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=declared("kept-back"), wait=Wait.DECIDED
        )
    ).view  # fmt: skip
    [delivery] = held.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("offer-hold", "no-prefetch")
    assert delivery.approvals is not None
    assert delivery.approvals.gate == "release"

    await approve(world, held.transfer, "carol", "export-control")
    assert world.eu.stored() == []
    await approve(world, held.transfer, "bob", "security")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


async def test_where_policy_forbids_prefetch_a_rejection_ends_the_offer(cold_world, tmp_path):
    world = cold_world
    world.us.set_policy(POLICY_THAT_ASKS)
    await opened(world)
    held = (
        await world.push(
            f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1", declare=declared("kept-back"), wait=Wait.DECIDED
        )
    ).view  # fmt: skip

    await approve(world, held.transfer, "bob", "security", verdict=Verdict.REJECT, reason="no")
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "offer-deny")
    assert world.eu.stored() == []


async def test_a_hold_that_nobody_satisfies_expires_with_its_own_reason(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    await world.us.stop()
    async with open_site(world.us.directory) as site:

        def age(tx):
            from dataclasses import replace

            [delivery] = tx.deliveries(held.transfer)
            tx.save_delivery(replace(delivery, state_at=delivery.state_at - timedelta(hours=169)))
            tx.queue_job("review", f"{held.transfer}/eu")

        await site.catalog.write(age)
    await world.us.start()
    await know_each_other(world)

    ended = await world.until(held.transfer, lambda view: view.deliveries[0].state == "expired")
    assert ended.deliveries[0].reasons[0].text == "nobody satisfied the hold within 168 hours"
    async with open_session(world.us.agent) as session:
        assert (await session.client.approval_requests(held.transfer)).requests == ()


async def begun(site, transfer):
    """Return once a sending of the key was begun."""
    async with asyncio.timeout(60), open_site(site.directory) as opened_site:
        while await opened_site.catalog.read(lambda tx: tx.document(transfer, documents.key_sent_name("eu"))) is None:
            await asyncio.sleep(0.01)


async def end_what_was_decided(site, transfer):
    """Give the hold, and the release that rests on it, the end that they will have; the clock of the site is not moved."""
    async with open_site(site.directory) as opened_site:
        key = opened_site.keyring().signing

        def end(tx):
            for name in (documents.decision_name("release", "eu"), documents.hold_name("release", "eu")):
                decision = Decision.read_unverified(documents.read_envelope(tx.document(transfer, name)))
                early = format_time(parse_time(decision.at) - timedelta(hours=24))
                ended = decision.model_copy(update={"at": early, "not_after": decision.at})
                tx.put_document(transfer, name, ended.sign(key).encode())
            tx.queue_job("review", f"{transfer}/eu")
            return parse_time(decision.at)

        made = await opened_site.catalog.write(end)
    while datetime.now(UTC) < made + timedelta(seconds=1):
        await asyncio.sleep(0.01)  # times are whole seconds: a hold made again within the same one is the very same request


async def test_approvals_that_ended_before_the_destination_came_back_are_asked_for_anew(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    old = request_of(await asked(world, held.transfer))
    await world.eu.stop()
    await approve(world, held.transfer, "carol", "export-control")
    await approve(world, held.transfer, "bob", "security")
    await begun(world.us, held.transfer)
    await world.us.stop()
    await end_what_was_decided(world.us, held.transfer)
    await world.us.start()

    view = await world.until(held.transfer, lambda view: asks_anew(view, old))
    assert view.deliveries[0].state == "released"
    await approve(world, held.transfer, "carol", "export-control")
    await approve(world, held.transfer, "bob", "security")
    await world.eu.start()
    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
    await world.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")


@pytest.mark.full
async def test_a_request_that_ended_is_made_again_and_old_approvals_are_void(cold_world, tmp_path):
    world = cold_world
    world.us.set_policy(POLICIES["us"])
    await opened(world)
    held = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    await approve(world, held.transfer, "carol", "export-control")
    old = request_of(await asked(world, held.transfer))
    await world.us.stop()
    await end_what_was_decided(world.us, held.transfer)
    await world.us.start()
    await know_each_other(world)
    async with open_session(world.us.agent) as session:
        view = await session.client.wait(held.transfer, lambda one: asks_anew(one, old), 60)

    assert view.deliveries[0].approvals.given == ()


async def test_each_destination_is_asked_about_on_its_own(cold_world, tmp_path):
    world = cold_world
    await opened(world)
    first = (await world.push(f"file:{noise(tmp_path / 'a', 1000)}", "eu:app:v1")).view
    second = (await world.push(f"file:{noise(tmp_path / 'b', 1000, 2)}", "eu:app:v2")).view
    said = signed(request_of(await asked(world, first.transfer)), "bob", "security")

    with pytest.raises(Conflict) as moved:
        await hand_in(world, second.transfer, said)
    assert moved.value.code == "E-APPROVALS"
    assert request_of(await asked(world, first.transfer)).destination == SiteName("eu")
