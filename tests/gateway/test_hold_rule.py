"""The hold rule: hours are counted by a clock that can be right, from when the delivery began to wait."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from carnet.decision import Gate, Outcome
from carnet.errors import Held
from carnet.identifiers import Digest, SiteName
from carnet.policy import evaluate
from gateway.deciding import Judgement
from gateway.expire import Expire
from gateway.hold_rule import judge_hold_end
from gateway.records import JobRecord
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
