"""The hold rule: hours are counted by a clock that can be right, from when the delivery began to wait."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from carnet.decision import Decision, Gate, Outcome
from carnet.errors import Held
from carnet.identifiers import Digest, SiteName
from carnet.keys import SigningKey
from carnet.policy import evaluate
from carnet.timestamps import format_time
from gateway import documents
from gateway.deciding import Judgement
from gateway.expire import Expire
from gateway.hold_rule import judge_hold_end, judge_site_limit, keep_beginning
from gateway.records import JobRecord
from gateway.services import Bounds
from gateway.time_floor import APART
from tests.carnet.policy.policies import ALLOW_ALL, DAY, policy, rule
from tests.gateway.samples import delivery, transfer, transfer_id

EU = SiteName("eu")
DENIES = "id: h, at: [release], effect: hold, approvals: [{role: security}], hold_hours: 24"
ESCALATES = f"{DENIES}, on_expiry: escalate, escalate_to: [{{role: director}}]"


def held(text: str = DENIES) -> Judgement:
    decision = evaluate(policy(ALLOW_ALL, rule(text)), Gate.RELEASE, {}, DAY)
    return Judgement(Gate.RELEASE, decision, Digest.of(b""), {}, DAY, 1, decision.outcome)


async def judged(world, asked: Judgement, *, waited: timedelta, state: str = "release-hold"):
    """Return what the rule makes of a delivery that has been in `state` for so long."""
    since = world.clock.now() - waited

    def change(tx):
        tx.save_transfer(transfer(state="admitted"))
        tx.save_delivery(delivery(state=state, state_at=since))
        return judge_hold_end(tx, SimpleNamespace(trust=world.trust), asked, transfer(), EU)[0]

    return await world.catalog.write(change)


async def test_a_hold_within_its_hours_is_one_that_ends_with_them(world):
    judgement = await judged(world, held(), waited=timedelta(hours=23))

    assert (judgement.outcome, judgement.extra) == (Outcome.HOLD, ())
    assert judgement.until <= world.clock.now() + timedelta(hours=1)


async def test_a_hold_whose_hours_are_over_is_denied_and_says_what_to_do(world):
    judgement = await judged(world, held(), waited=timedelta(hours=24))

    (reason,) = judgement.views
    assert (judgement.outcome, judgement.asks, reason.rule) == (Outcome.DENY, False, "hold-expired")
    assert "rule h" in reason.text
    assert "24 hours" in reason.text
    assert "push it again" in reason.remedy


@pytest.mark.parametrize("text", [DENIES, ESCALATES])
async def test_a_clock_apart_from_every_peer_ends_and_escalates_nothing(world, text):
    ahead = APART + timedelta(minutes=1)
    world.trust.floor.hear(EU, world.clock.now() - ahead, world.clock.now())

    with pytest.raises(Held) as refusal:
        await judged(world, held(text), waited=timedelta(hours=25))

    assert refusal.value.code == "E-CLOCK"
    assert (await judged(world, held(text), waited=timedelta(hours=1))).outcome is Outcome.HOLD


async def test_a_review_by_a_clock_that_cannot_be_right_ends_nothing(world):
    world.trust.floor.raise_to(world.clock.now() + timedelta(hours=1))
    services = SimpleNamespace(trust=world.trust, catalog=world.catalog)

    with pytest.raises(Held) as refusal:
        await Expire(services).review(JobRecord(id=1, kind="review", key=f"{transfer_id(1)}/eu", attempts=1, fence=1))

    assert refusal.value.code == "E-CLOCK"


async def test_hours_are_judged_at_the_later_of_clock_and_floor(world):
    world.trust.floor.raise_to(world.clock.now() + timedelta(seconds=20))

    assert (await judged(world, held(), waited=timedelta(hours=24, seconds=-10))).outcome is Outcome.DENY


async def test_an_escalated_hold_needs_those_it_turned_to_and_no_longer_those_it_asked_first(world):
    judgement = await judged(world, held(ESCALATES), waited=timedelta(hours=24))

    assert (judgement.outcome, judgement.needed) == (Outcome.HOLD, {"director": 1})
    assert (await judged(world, held(ESCALATES), waited=timedelta(hours=48))).outcome is Outcome.DENY


async def test_a_delivery_that_does_not_wait_has_its_hours_before_it(world):
    judgement = await judged(world, held(), waited=timedelta(hours=100), state="stored")

    assert judgement.outcome is Outcome.HOLD
    assert judgement.until > world.clock.now() + timedelta(hours=23)


async def kept_hold(world, *, begun: timedelta, runs_out: timedelta) -> None:
    """Keep a hold at `release` that asked people so long ago, and the end of its request."""
    now = world.clock.now()
    hold = Decision.model_validate(
        {
            "gate": "release",
            "outcome": "hold",
            "site": "us",
            "transfer": transfer_id(1),
            "waybill": Digest.of(b"w"),
            "destination": "eu",
            "policy": Digest.of(b"p"),
            "trust_version": 1,
            "facts": Digest.of(b"f"),
            "reasons": [{"rule": "h", "outcome": "hold", "text": "ask them"}],
            "at": format_time(now - begun),
            "not_after": format_time(now + runs_out),
        }
    )

    def keep(tx):
        tx.save_transfer(transfer(state="admitted"))
        tx.put_document(transfer_id(1), documents.hold_name("release", "eu"), hold.sign(SigningKey(bytes(32))).encode())
        tx.put_document(transfer_id(1), documents.hold_begun_name("release", "eu"), format_time(now - begun).encode())

    await world.catalog.write(keep)


@pytest.mark.parametrize("state", ["released", "offer-hold"])
async def test_hours_of_people_that_were_asked_in_another_state_go_on_when_their_request_is_made_anew(world, state):
    """A key that may be on its way, or a release that an offer waits for: each renewal is the same asking."""
    await kept_hold(world, begun=timedelta(hours=24), runs_out=timedelta(hours=-1))

    judgement = await judged(world, held(), waited=timedelta(hours=99), state=state)

    assert (judgement.outcome, judgement.views[0].rule) == (Outcome.DENY, "hold-expired")


async def test_a_release_that_nobody_was_asked_about_yet_has_its_hours_however_long_the_offer_waited(world):
    judgement = await judged(world, held(), waited=timedelta(hours=99), state="offer-hold")

    assert judgement.outcome is Outcome.HOLD
    assert judgement.until > world.clock.now() + timedelta(hours=23)


async def test_what_was_asked_and_satisfied_before_it_was_sent_has_its_hours_anew(world):
    await kept_hold(world, begun=timedelta(hours=30), runs_out=timedelta(hours=-1))

    judgement = await judged(world, held(), waited=timedelta(hours=1), state="stored")

    assert judgement.outcome is Outcome.HOLD


@pytest.mark.parametrize(("begun", "outcome"), [(167, Outcome.HOLD), (168, Outcome.DENY)])
async def test_the_site_lets_nothing_ask_for_longer_while_its_key_may_be_on_the_way(world, begun, outcome):
    await kept_hold(world, begun=timedelta(hours=begun), runs_out=timedelta(hours=1))
    asks = replace(held("id: h, at: [release], effect: hold, approvals: [{role: security}]"), asks=True)

    def judge(tx):
        tx.save_delivery(delivery(state="released", state_at=tx.now))
        services = SimpleNamespace(trust=world.trust, bounds=Bounds())
        return judge_site_limit(tx, services, asks, transfer(), EU)

    judgement = await world.catalog.write(judge)

    assert judgement.outcome is outcome
    if outcome is Outcome.DENY:
        assert judgement.views[0].rule == "hold-expired"


async def test_an_allow_that_is_recorded_ends_the_asking_and_a_renewal_does_not(world):
    await kept_hold(world, begun=timedelta(hours=5), runs_out=timedelta(hours=1))
    asking = replace(held(), asks=True)
    services = SimpleNamespace(trust=world.trust)

    def keep(judgement):
        def change(tx):
            tx.save_delivery(delivery(state="released", state_at=tx.now))
            keep_beginning(tx, services, judgement, transfer(), EU)
            return tx.document(transfer_id(1), documents.hold_begun_name("release", "eu"))

        return world.catalog.write(change)

    assert await keep(asking) == format_time(world.clock.now() - timedelta(hours=5)).encode()
    assert await keep(replace(asking, outcome=Outcome.ALLOW, asks=False)) is None
