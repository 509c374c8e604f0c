"""Holds whose rules give them hours: after them the delivery is denied, or others are asked; the clock of both sites is moved."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from agent import session as agent_session
from agent.push import Wait
from agent.session import open_session
from carnet.decision import Decision, Outcome
from carnet.errors import Conflict
from carnet.identifiers import SiteName
from carnet.recall import Recall, RecallCause
from carnet.timestamps import parse_time
from gateway import documents
from gateway.offline import open_site
from tests.crossing.officers import appoint_both, approve, asked, hand_in, request_of, signed
from tests.crossing.sites import POLICIES, World, know_each_other, make_template, world_from
from tests.promises.border import verified_log
from tests.promises.kills import noise

RULES = """
  - id: a-look-in-time
    at: [release]
    when: {lane: us-eu, purpose: in-time}
    effect: hold
    reason: somebody looks at it within hours
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
    hold_hours: 2
  - id: others-look
    at: [release]
    when: {lane: us-eu, purpose: others}
    effect: hold
    reason: security looks at it, or export control does
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
    hold_hours: 2
    on_expiry: escalate
    escalate_to: [{role: export-control}]
  - id: waits-at-the-offer
    at: [offer]
    when: {lane: us-eu, purpose: offered}
    effect: hold
    reason: it waits for a fact
    remedy: ask the tests
    hold_hours: 2
  - id: kept-back
    at: [offer]
    when: {lane: us-eu, purpose: kept-back}
    effect: allow
    reason: nothing of it waits abroad
    obligations: [{kind: no-prefetch}]
  - id: asked-late
    at: [offer]
    when: {lane: us-eu, purpose: asked-late}
    effect: hold
    reason: somebody looks at the offer first
    remedy: have security approve it
    approvals: [{role: security}]
    obligations: [{kind: no-prefetch}]
  - id: asked-late-again
    at: [release]
    when: {lane: us-eu, purpose: asked-late}
    effect: hold
    reason: and then at the release
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
    hold_hours: 2
  - id: both-in-time
    at: [offer]
    when: {lane: us-eu, purpose: both-in-time}
    effect: hold
    reason: somebody looks at the offer first
    remedy: have security approve it
    approvals: [{role: security}]
    hold_hours: 2
    obligations: [{kind: no-prefetch}]
  - id: both-in-time-again
    at: [release]
    when: {lane: us-eu, purpose: both-in-time}
    effect: hold
    reason: and then at the release
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
    hold_hours: 20
  - id: others-look-first
    at: [release]
    when: {lane: us-eu, purpose: kept-back}
    effect: hold
    reason: security looks at it, or export control does
    remedy: have security approve it
    approvals: [{role: security, count: 2}]
    hold_hours: 2
    on_expiry: escalate
    escalate_to: [{role: export-control}]
"""


@dataclass
class MovedClock:
    """The system's clock, ahead by what the test says; the sites share it, for a clock apart from every other ends nothing."""

    by: timedelta = field(default_factory=timedelta)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def pass_hours(self, hours: float) -> None:
        self.by += timedelta(hours=hours)


async def opened(world: World, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    """Start both sites, and let agents live, under one clock, with officers and with the rules of this file at us."""
    world.us.set_policy(POLICIES["us"] + RULES)
    await appoint_both(world, floor=())
    clock = world.us.clock = world.eu.clock = MovedClock()
    monkeypatch.setattr(agent_session, "now", clock.now)
    await world.eu.start()
    await world.us.start()
    await know_each_other(world)
    return clock


async def pushed(world: World, tmp_path, purpose: str, wait: Wait = Wait.DELIVERED):
    """Push something small; return the view once it waits."""
    declare = {"classification": "internal", "purpose": purpose}
    return (await world.push(f"file:{noise(tmp_path / purpose, 1000)}", "eu:app:v1", declare=declare, wait=wait)).view


async def ended(world: World, transfer, state: str):
    """Return the delivery once it is in `state`."""
    [delivery] = (await world.until(transfer, lambda view: view.deliveries[0].state == state, 60)).deliveries
    return delivery


async def kept(world: World, transfer, name: str) -> bytes | None:
    async with open_site(world.us.directory) as site:
        return await site.catalog.read(lambda tx: tx.document(transfer, name))


async def test_a_hold_that_nobody_satisfies_within_its_hours_is_denied_and_recalled(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "in-time")
    assert "after 2 hours of waiting rule a-look-in-time denies it" in held.deliveries[0].reasons[0].text
    request = request_of(await asked(world, held.transfer))
    assert world.eu.stored()
    clock.pass_hours(1.9)
    await approve(world, held.transfer, "bob", "security")
    assert (await world.show(held.transfer)).deliveries[0].state == "release-hold"

    clock.pass_hours(0.1)
    delivery = await ended(world, held.transfer, "release-deny")

    assert delivery.outcome == "deny"
    assert delivery.reasons[0].rule == "hold-expired"
    assert delivery.reasons[0].text == "nobody satisfied the hold within the 2 hours that rule a-look-in-time gives it"
    assert delivery.reasons[0].remedy
    body = await kept(world, held.transfer, documents.decision_name("release", "eu"))
    decision = Decision.read_unverified(documents.read_envelope(body))
    assert (decision.outcome, decision.reasons[0].rule) == (Outcome.DENY, "hold-expired")
    recall = Recall.read_unverified(documents.read_envelope(await kept(world, held.transfer, documents.recall_to_name("eu"))))
    assert recall.cause is RecallCause.DENIED
    async with asyncio.timeout(60):
        while world.eu.stored():
            await asyncio.sleep(0.02)
    with pytest.raises(Conflict) as late:
        await hand_in(world, held.transfer, signed(request, "ada", "security"))
    assert late.value.code == "E-APPROVALS"
    await world.us.stop()
    found = await verified_log(world.us)
    assert found["decision-release"] == 2
    assert "key-released" not in found


async def test_a_site_that_was_down_when_the_hours_ended_counts_no_approval_that_comes_after(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "in-time")
    await approve(world, held.transfer, "bob", "security")
    request = request_of(await asked(world, held.transfer))
    await world.us.stop()
    await world.eu.stop()
    clock.pass_hours(3)
    await world.eu.start()
    await world.us.start()

    with pytest.raises(Conflict) as late:
        await hand_in(world, held.transfer, signed(request, "ada", "security"))

    assert late.value.code == "E-APPROVALS"
    assert (await ended(world, held.transfer, "release-deny")).reasons[0].rule == "hold-expired"


async def test_a_request_ends_with_the_hours_of_its_hold_and_looking_again_makes_no_other(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "in-time")
    request = request_of(await asked(world, held.transfer))
    assert parse_time(request.not_after) - parse_time(request.created) <= timedelta(hours=2, seconds=1)
    await approve(world, held.transfer, "bob", "security")
    clock.pass_hours(1.5)

    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
    await approve(world, held.transfer, "ada", "security")

    await ended(world, held.transfer, "delivered")


async def test_a_hold_is_escalated_once_asks_others_instead_and_voids_what_was_approved(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "others")
    await approve(world, held.transfer, "bob", "security")
    old = request_of(await asked(world, held.transfer))
    clock.pass_hours(2)

    view = await world.until(held.transfer, asks_export_control, 60)

    [delivery] = view.deliveries
    assert delivery.state == "release-hold"
    assert delivery.approvals.given == ()
    assert [one.rule for one in delivery.reasons] == ["approvals", "hold-escalated", "others-look"]
    assert "within 2 hours: since " in delivery.reasons[1].text
    assert "1 of export-control instead" in delivery.reasons[1].text
    with pytest.raises(Conflict):
        await hand_in(world, held.transfer, signed(old, "ada", "security"))
    again = request_of(await asked(world, held.transfer))
    async with open_session(world.us.agent) as session:
        await session.client.retry(held.transfer)
    await world.us.stop()
    await world.us.start()
    assert request_of(await asked(world, held.transfer)).digest == again.digest
    await approve(world, held.transfer, "carol", "export-control")
    await ended(world, held.transfer, "delivered")


async def test_an_escalated_hold_that_nobody_satisfies_either_is_denied(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "others")
    clock.pass_hours(2)
    await world.until(held.transfer, asks_export_control, 60)
    clock.pass_hours(2)

    delivery = await ended(world, held.transfer, "release-deny")

    assert delivery.reasons[0].rule == "hold-expired"
    assert "within 4 hours; for the last 2 rule others-look asked 1 of export-control" in delivery.reasons[0].text


def asks_export_control(view) -> bool:
    asked_now = view.deliveries[0].approvals
    return asked_now is not None and [(one.role, one.count) for one in asked_now.needed] == [("export-control", 1)]


async def test_whoever_was_asked_last_about_a_release_before_anything_left_is_who_counts_when_it_is_released(
    cold_world, tmp_path, monkeypatch
):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "kept-back", Wait.DECIDED)
    assert held.deliveries[0].state == "offer-hold"
    clock.pass_hours(2)
    await world.until(held.transfer, asks_export_control, 60)
    assert world.eu.stored() == []

    await approve(world, held.transfer, "carol", "export-control")

    await ended(world, held.transfer, "delivered")


async def test_a_release_that_is_asked_about_late_has_all_its_hours(cold_world, tmp_path, monkeypatch):
    """The offer waited for longer than the hours of the release: nobody was asked about that one yet."""
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "asked-late", Wait.DECIDED)
    assert held.deliveries[0].approvals.gate == "offer"
    clock.pass_hours(5)

    await approve(world, held.transfer, "bob", "security")
    asks = await world.until(
        held.transfer, lambda one: one.deliveries[0].approvals is not None and one.deliveries[0].approvals.gate == "release", 60
    )

    assert asks.deliveries[0].state == "offer-hold"
    assert asks.deliveries[0].reasons[0].rule == "no-prefetch"
    clock.pass_hours(1)
    await approve(world, held.transfer, "bob", "security")  # one of two: nobody is asked about the offer again
    assert (await world.show(held.transfer)).deliveries[0].approvals.gate == "release"
    clock.pass_hours(1)
    delivery = await ended(world, held.transfer, "offer-deny")
    assert "nobody satisfied the hold within the 2 hours" in delivery.reasons[0].text


async def test_a_hold_at_the_offer_that_asks_nobody_is_denied_in_the_end_and_with_it_its_transfer(
    cold_world, tmp_path, monkeypatch
):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "offered", Wait.DECIDED)
    assert held.deliveries[0].state == "offer-hold"
    async with open_site(world.us.directory) as site:
        looked_at = await site.catalog.read(lambda tx: tx.next_job_due(["review"]))
    assert timedelta(minutes=119) < looked_at - clock.now() <= timedelta(hours=2)
    clock.pass_hours(2)

    delivery = await ended(world, held.transfer, "offer-deny")

    assert delivery.reasons[0].rule == "hold-expired"
    view = await world.show(held.transfer)
    assert (view.state, view.reasons[0].rule) == ("denied", "hold-expired")
    assert await kept(world, held.transfer, documents.recall_to_name("eu")) is None


async def test_an_offer_that_had_begun_to_cross_before_it_was_held_is_recalled_by_its_denial(cold_world, tmp_path, monkeypatch):
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "offered", Wait.DECIDED)
    await world.us.stop()
    async with open_site(world.us.directory) as site:

        def attempted(tx):
            [delivery] = tx.deliveries(held.transfer)
            tx.save_delivery(replace(delivery, attempts=1))

        await site.catalog.write(attempted)
    await world.us.start()
    clock.pass_hours(2)

    await ended(world, held.transfer, "offer-deny")

    assert await kept(world, held.transfer, documents.recall_to_name("eu")) is not None


async def test_the_hours_of_the_site_end_a_hold_whose_rule_gives_it_more(cold_world, tmp_path, monkeypatch):
    world = cold_world
    world.us.limits = world.us.limits.model_copy(update={"hold_hours": 1})
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "in-time")
    clock.pass_hours(1)

    delivery = await ended(world, held.transfer, "expired")

    assert delivery.reasons[0].text == "nobody satisfied the hold within 1 hours"


async def test_an_approval_does_not_count_for_the_same_content_pushed_again_after_a_recall(cold_world, tmp_path, monkeypatch):
    world = cold_world
    await opened(world, monkeypatch)
    first = await pushed(world, tmp_path, "in-time")
    request = request_of(await asked(world, first.transfer))
    said = [signed(request, name, "security") for name in ("bob", "ada")]
    for one in said:
        await hand_in(world, first.transfer, one)
    await ended(world, first.transfer, "delivered")
    async with open_session(world.us.agent) as session:
        await session.client.recall(first.transfer, "wrong build")
    await ended(world, first.transfer, "recalled")

    second = await pushed(world, tmp_path, "in-time")

    assert second.transfer != first.transfer
    assert second.deliveries[0].approvals.given == ()
    for one in said:
        with pytest.raises(Conflict) as refusal:
            await hand_in(world, second.transfer, one)
        assert refusal.value.code == "E-APPROVALS"
    assert (await world.show(second.transfer)).deliveries[0].state == "release-hold"


HOURS_APART = POLICIES["us"] + "".join(
    f"""
  - id: {site}-waits
    at: [offer]
    when: {{destination.site: {site}, purpose: split}}
    effect: hold
    reason: somebody looks at what goes to {site}
    remedy: ask the tests
    hold_hours: {count}
"""
    for site, count in (("eu", 2), ("jp", 4))
)


async def test_holds_of_two_destinations_end_each_in_its_hours_and_the_transfer_with_the_last(tmp_path, monkeypatch):
    both, clock = (SiteName("eu"), SiteName("jp")), MovedClock()
    monkeypatch.setattr(agent_session, "now", clock.now)
    await make_template(tmp_path / "made", "us-eu=us:eu,jp", ("jp",))
    async with world_from(tmp_path / "made", tmp_path / "world", start=False) as world:
        world.us.set_policy(HOURS_APART)
        for site in world.sites:
            site.clock = clock
        await world.start()
        await know_each_other(world, {*both, SiteName("us")})
        source, declare = noise(tmp_path / "a", 1000), {"classification": "internal", "purpose": "split"}
        held = (await world.push(f"file:{source}", "eu:app:v1", destinations=both, declare=declare, wait=Wait.DECIDED)).view
        clock.pass_hours(2)
        first = await world.until(held.transfer, lambda view: "offer-deny" in states(view).values(), 60)
        assert (first.state, states(first)) == ("held", {"eu": "offer-deny", "jp": "offer-hold"})
        clock.pass_hours(2)

        last = await world.until(held.transfer, lambda view: view.state == "denied", 60)

    assert states(last) == {"eu": "offer-deny", "jp": "offer-deny"}
    assert last.reasons[0].rule == "hold-expired"


def states(view) -> dict[str, str]:
    return {one.destination: one.state for one in view.deliveries}


async def test_an_offer_that_was_approved_in_time_is_asked_about_anew_and_not_denied_while_its_release_waits(
    cold_world, tmp_path, monkeypatch
):
    """Its two hours end while the release, which has twenty, waits for others: nobody failed to satisfy it."""
    world = cold_world
    clock = await opened(world, monkeypatch)
    held = await pushed(world, tmp_path, "both-in-time", Wait.DECIDED)
    assert held.deliveries[0].approvals.gate == "offer"
    clock.pass_hours(0.5)
    await approve(world, held.transfer, "bob", "security")
    await world.until(held.transfer, asks_at("release"), 60)
    clock.pass_hours(1.6)

    view = await world.until(held.transfer, asks_at("offer"), 60)

    assert view.deliveries[0].state == "offer-hold"
    assert parse_time(view.deliveries[0].approvals.until) - clock.now() > timedelta(minutes=110)
    await approve(world, held.transfer, "bob", "security")
    await world.until(held.transfer, asks_at("release"), 60)
    clock.pass_hours(1)
    for person in ("ada", "bob"):
        await approve(world, held.transfer, person, "security")
    await ended(world, held.transfer, "delivered")


def asks_at(gate: str):
    return lambda view: view.deliveries[0].approvals is not None and view.deliveries[0].approvals.gate == gate
