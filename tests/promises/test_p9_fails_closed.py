"""P9: what is missing, expired, broken or doubtful holds with a reason, at each gate and each site; nothing is allowed by it."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from agent.push import Wait
from carnet.decision import Gate
from carnet.errors import CarnetError
from carnet.policy import Facts, Policy, PolicyDecision, evaluate
from gateway.policies import PolicyBook
from tests.crossing.sites import POLICIES, LiveSite, know_each_other
from tests.promises.border import Border
from tests.promises.kills import noise

NAME = "eu:app:v1"
HOURS = (-2, pytest.param(2, marks=pytest.mark.full))
WAITS = {"offer-hold", "release-hold", "held"}
NEEDS = """
  - id: needs-a-fact
    at: [{gate}]
    when: {{data.categories: [none]}}
    effect: allow
    reason: only with a fact that nobody gave
"""
BARRED = """
apiVersion: carnet/groups/v1
id: barred
effective_from: 2026-01-01
effective_until: {until}
source: the tests
reviewed_by: the tests
reviewed_on: 2026-01-01
groups: {{BARRED: {{title: the barred, members: [{{code: KP}}]}}}}
"""
NOT_TO_THE_BARRED = """
  - id: not-to-the-barred
    at: [{gate}]
    when: {{destination.jurisdiction: {{group: BARRED}}}}
    effect: deny
    reason: they are barred
    remedy: there is none
"""


def set_clock(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Let the sites that start from now on have a clock that is wrong by that much."""

    class WrongClock:
        def now(self) -> datetime:
            return datetime.now(UTC) + by

    monkeypatch.setattr("gateway.assembly.SystemClock", WrongClock)


async def start(monkeypatch: pytest.MonkeyPatch, site: LiveSite, by: timedelta = timedelta(0)) -> None:
    """Start one site with a clock of its own."""
    with monkeypatch.context() as patch:
        set_clock(patch, by)
        await site.start()


async def meet_and_stop(border: Border) -> None:
    """Let the sites learn each other's keys while all is well, and stop them."""
    await border.start()
    await border.eu.stop()
    await border.us.stop()


async def held_words(border: Border, source: Path) -> str:
    """Push to eu, which must not arrive; return what the push or its transfer says."""
    try:
        pushed = await border.world.push(f"file:{source}", NAME, wait=Wait.RECEIVED)
    except CarnetError as error:
        return str(error)
    view = await border.world.until(
        pushed.view.transfer, lambda seen: bool(seen.deliveries[0].error) or seen.deliveries[0].state in WAITS, 30
    )
    reasons = [*view.reasons, *view.deliveries[0].reasons]
    return " ".join([view.deliveries[0].error or "", *(f"{reason.rule} {reason.text}" for reason in reasons)])


async def arrives(border: Border, source: Path, out: Path) -> None:
    """Push again, now that all is well."""
    await know_each_other(border.world)
    await border.world.push(f"file:{source}", NAME)
    await border.world.pull(border.eu, "app:v1", f"file:{out}")
    assert out.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("hours", HOURS)
async def test_a_wrong_clock_at_the_origin_lets_nothing_out(
    cold_border: Border, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    source = noise(tmp_path / "a", 50_000)
    await meet_and_stop(cold_border)
    await cold_border.eu.start()
    await start(monkeypatch, cold_border.us, timedelta(hours=hours))

    assert "clock" in await held_words(cold_border, source)
    assert cold_border.eu.stored() == []

    await cold_border.us.stop()
    await cold_border.us.start()
    if hours < 0:
        await arrives(cold_border, source, tmp_path / "out")
    else:  # what it signed in those two hours says that they are past
        assert "clock" in await held_words(cold_border, source)


@pytest.mark.parametrize("hours", HOURS)
async def test_a_wrong_clock_at_the_destination_takes_nothing_in(
    cold_border: Border, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    source = noise(tmp_path / "a", 50_000)
    await meet_and_stop(cold_border)
    await start(monkeypatch, cold_border.eu, timedelta(hours=hours))
    await cold_border.us.start()

    assert "clock" in await held_words(cold_border, source)
    with pytest.raises(CarnetError):
        await cold_border.world.pull(cold_border.eu, "app:v1", f"file:{tmp_path / 'early'}")

    await cold_border.eu.stop()
    await cold_border.eu.start()
    if hours < 0:
        await arrives(cold_border, source, tmp_path / "out")
    else:  # as above
        assert "E-CLOCK" in await held_words(cold_border, source)


async def test_a_revocation_set_of_the_other_site_that_expired_holds(
    cold_border: Border, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who the other site trusts no more is not known any longer, so nothing is done with it."""
    source = noise(tmp_path / "a", 50_000)
    await cold_border.start()
    await cold_border.eu.stop()
    await cold_border.us.stop()
    await start(monkeypatch, cold_border.us, timedelta(minutes=70))

    assert "E-REVOCATION-EXPIRED" in await held_words(cold_border, source)


@pytest.mark.parametrize(("site", "gate"), [("us", "offer"), ("us", "release"), ("eu", "receipt")])
async def test_a_fact_that_nobody_gave_holds_at_each_gate_and_is_named(
    cold_border: Border, tmp_path: Path, site: str, gate: str
) -> None:
    live: LiveSite = getattr(cold_border, site)
    live.set_policy(POLICIES[site] + NEEDS.format(gate=gate))
    await cold_border.start()

    words = await held_words(cold_border, noise(tmp_path / "a", 50_000))
    assert "FACT-MISSING" in words, words
    assert "data.categories" in words
    if gate == "offer":
        assert cold_border.eu.stored() == []


@pytest.mark.parametrize(("site", "gate"), [("us", "offer"), ("us", "release"), ("eu", "receipt")])
async def test_a_file_of_groups_that_is_out_of_date_holds_at_each_gate_and_is_named(
    cold_border: Border, tmp_path: Path, site: str, gate: str
) -> None:
    """The list says who must not get it; as long as nobody has looked at it again, nobody is known not to be on it."""
    live: LiveSite = getattr(cold_border, site)
    live.set_policy(POLICIES[site] + NOT_TO_THE_BARRED.format(gate=gate))
    own = live.paths.policy / "groups"
    own.mkdir()
    own.joinpath("barred.yaml").write_text(BARRED.format(until="2026-01-31"))
    await cold_border.start()

    words = await held_words(cold_border, noise(tmp_path / "a", 50_000))
    assert "GROUPS-OUT-OF-DATE: BARRED cannot be relied upon today" in words, words
    if gate == "offer":
        assert cold_border.eu.stored() == []

    await live.stop()
    own.joinpath("barred.yaml").write_text(BARRED.format(until="2999-12-31"))
    await live.start()
    await arrives(cold_border, noise(tmp_path / "b", 50_000, 2), tmp_path / "out")


@pytest.mark.parametrize("site", ["us", "eu"])
async def test_an_evaluation_that_crashes_is_a_hold_that_says_so(
    cold_border: Border, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: str
) -> None:
    source = noise(tmp_path / "a", 50_000)
    directory = getattr(cold_border, site).paths.policy
    sound = {PolicyBook(directory).digest}

    def crash(policy: Policy, gate: Gate, facts: Facts, on: date | None) -> PolicyDecision:
        if policy.digest in sound:
            raise RecursionError("a defect")
        return evaluate(policy, gate, facts, on)

    with monkeypatch.context() as patch:
        patch.setattr("gateway.policies.evaluate", crash)
        await cold_border.start()
        words = await held_words(cold_border, source)
        assert "engine" in words
        assert "RecursionError" in words
        with pytest.raises(CarnetError):
            await cold_border.world.pull(cold_border.eu, "app:v1", f"file:{tmp_path / 'early'}")
    await cold_border.world.push(f"file:{source}", "eu:app:v2")
    await cold_border.world.pull(cold_border.eu, "app:v2", f"file:{tmp_path / 'out'}")


@pytest.mark.parametrize("damage", ["rules: [", "", "apiVersion: carnet/policy/v1\nkind: Policy\n"])
async def test_a_site_whose_policy_cannot_be_read_does_not_start(cold_border: Border, damage: str) -> None:
    cold_border.us.set_policy(damage)

    with pytest.raises(CarnetError) as refused:
        await cold_border.us.start()

    assert refused.value.code == "E-POLICY"
    assert refused.value.remedy
