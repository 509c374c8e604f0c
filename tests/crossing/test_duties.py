"""Duties of a border: made by decisions, signed and closed by people of the role, late ones told."""

import asyncio

import pytest

from agent.push import Wait
from carnet.entries import EntryType
from carnet.errors import Conflict, NotAuthorised, Refused
from carnet.flow.commandline import run
from carnet.identifiers import SiteName
from carnet.keys import encode_private_key
from gateway.cli import build_app
from gateway.doctor.obliged import examine_duties
from gateway.duties import KeptDuty, open_duties
from gateway.offline import open_site
from gateway.settings import Telemetry
from tests.crossing.obliged import HOLD, close, duties, make_late, one, policy, push, refuse, signed
from tests.crossing.officers import KEYS, appoint_both, approve
from tests.crossing.ports import free_port
from tests.crossing.sites import World, make_template, world_from
from tests.crossing.test_metrics import scraped
from tests.promises.border import verified_log


@pytest.fixture
async def border(cold_world: World) -> World:
    await appoint_both(cold_world, floor=())
    cold_world.eu.set_policy(policy("eu"))
    return cold_world


async def test_duties_wait_for_a_person_of_the_role_and_close_by_their_signature(border, tmp_path):
    notify = one("notify", "role: security, within_h: 1")
    border.us.set_policy(policy("us", notify, one("report", "channel: cra-art-14, within_h: 24")))
    await border.start()
    view = await push(border, tmp_path)

    found = await duties(border.us)

    assert [(duty.kind, duty.words, duty.transfer) for duty in found] == [
        ("notify", "notify by security", view.transfer),
        ("report", "report to cra-art-14 by anybody", view.transfer),
    ]
    notice, report = found
    await refuse(
        border.us, notice, "carol", "export-control", NotAuthorised, "for security, and carol signed it as export-control"
    )
    await refuse(border.us, notice, "carol", "security", NotAuthorised, r"^carol does not hold the role security \[")
    await refuse(border.us, notice, "mallory", "security", NotAuthorised, "nobody called mallory", key="bob")
    await refuse(border.us, notice, "bob", "security", Conflict, "of site eu", site="eu")
    await refuse(border.us, notice, "bob", "security", Conflict, "the duty was made at", at="2020-01-01T00:00:00Z")
    await close(border.us, notice, "bob", "security")
    await close(border.us, report, "carol", "export-control")
    await refuse(border.us, notice, "bob", "security", Conflict, "done already")
    async with open_site(border.us.directory) as opened:
        assert await opened.catalog.read(lambda tx: list(open_duties(tx))) == []
    await border.us.stop()
    entries = await verified_log(border.us)
    assert (entries[EntryType.DUTY_MADE], entries[EntryType.DUTY_DONE]) == (2, 2)


async def test_who_approved_or_asked_for_a_transfer_does_not_review_it(border, tmp_path):
    border.us.set_policy(policy("us", one("review", "role: security, within_h: 72")) + HOLD)
    await border.start()
    view = await push(border, tmp_path, initiator="ada@example", wait=Wait.RECEIVED)
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "release-hold")
    await approve(border, view.transfer, "bob", "security")
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "delivered")
    [review] = await duties(border.us)

    await refuse(border.us, review, "bob", "security", NotAuthorised, "had a part")
    await refuse(border.us, review, "ada", "security", NotAuthorised, "had a part")
    await close(border.us, review, "olga", "security")


async def test_a_review_that_the_hold_itself_asks_for_cannot_be_done_before_the_release(border, tmp_path):
    """Whoever signs it beforehand could approve afterwards, and have reviewed themselves."""
    border.us.set_policy(
        policy("us") + HOLD.rstrip() + "\n    obligations: [" + one("review", "role: security, within_h: 72") + "]\n"
    )
    await border.start()
    view = await push(border, tmp_path)
    before = await duties(border.us)
    await approve(border, view.transfer, "bob", "security")
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "delivered")
    [review] = await duties(border.us)

    assert before == []
    await refuse(border.us, review, "bob", "security", NotAuthorised, "had a part")
    await close(border.us, review, "olga", "security")


async def test_what_is_denied_when_it_is_declared_is_told_to_whom_the_rule_names(border, tmp_path):
    border.us.set_policy(
        policy("us")
        + "  - {id: no, at: [offer], when: {purpose: arms}, effect: deny, reason: no, remedy: none, obligations: ["
        + one("report", "channel: ddtc-126-1-e-2, within_h: 24")
        + "]}\n"
    )
    await border.start()
    with pytest.raises(Refused, match="rule no"):
        await push(border, tmp_path, declare={"purpose": "arms"})

    assert [duty.words for duty in await duties(border.us)] == ["report to ddtc-126-1-e-2 by anybody"]


async def test_a_duty_of_what_a_permit_asks_is_not_made_for_what_was_not_allowed(border, tmp_path):
    border.us.set_policy(
        policy("us", one("review", "role: security, within_h: 72"))
        + "  - {id: no, at: [offer], effect: hold, reason: wait, remedy: wait, obligations: ["
        + one("notify", "role: security, within_h: 1")
        + "]}\n"
    )
    await border.start()

    view = await push(border, tmp_path)

    assert view.deliveries[0].state == "offer-hold"
    assert [duty.kind for duty in await duties(border.us)] == ["notify"]


async def test_a_late_review_holds_the_next_release_of_the_lane_where_policy_asks_and_doctor_tells(border, tmp_path):
    late = """
  - id: reviews-first
    at: [release]
    when: {lane.reviews_overdue: {min: 1}}
    effect: hold
    reason: an earlier release has not been reviewed
    remedy: review it
"""
    border.us.set_policy(policy("us", one("review", "role: security, within_h: 72")) + late)
    await border.start()
    first = await push(border, tmp_path, 1)
    [review] = await duties(border.us)
    await make_late(border.us, review)

    second = await push(border, tmp_path, 2)
    async with open_site(border.us.directory) as opened:
        findings = await opened.catalog.read(lambda tx: list(examine_duties(tx)))
    await close(border.us, (await duties(border.us))[0], "olga", "security")
    third = await push(border, tmp_path, 3)

    assert (first.deliveries[0].state, second.deliveries[0].state) == ("delivered", "release-hold")
    assert second.deliveries[0].reasons[0].rule == "reviews-first"
    assert findings[0].severity.value == "fail"
    assert third.deliveries[0].state == "delivered"


async def test_duties_that_are_open_and_late_are_told_to_who_watches_the_site(border, tmp_path):
    border.us.telemetry = Telemetry(listen=f"127.0.0.1:{free_port()}")
    border.us.set_policy(policy("us", one("notify", "role: security, within_h: 1"), one("review", "role: security, within_h: 2")))
    await border.start()
    await push(border, tmp_path)
    await make_late(border.us, (await duties(border.us))[0])

    seen = await scraped(border.us)

    assert (seen["carnet_duties", "open"], seen["carnet_duties", "late"], seen[("carnet_log_copies_due",)]) == (1, 1, 0)


async def test_a_duty_is_listed_signed_and_closed_by_commands(border, tmp_path, capsys):
    border.us.set_policy(policy("us", one("notify", "role: security, within_h: 1")))
    await border.start()
    await push(border, tmp_path)
    [duty] = await duties(border.us)
    key = tmp_path / "bob.key"
    key.write_text(encode_private_key(KEYS["bob"]))
    key.chmod(0o600)

    assert duty.id in await command(capsys, "duty", "list", str(border.us.directory))
    signing = (
        "duty",
        "sign",
        duty.id,
        "--site",
        "us",
        "--as",
        "bob:security",
        "--note",
        "told the others",
        "--key",
        str(key),
    )
    (tmp_path / "signed").write_text(await command(capsys, *signing))
    assert "is done, by bob" in await command(capsys, "duty", "done", str(border.us.directory), str(tmp_path / "signed"))
    assert "no duty is open" in await command(capsys, "duty", "list", str(border.us.directory))
    assert "by bob: told the others" in await command(capsys, "duty", "list", str(border.us.directory), "--all")


@pytest.mark.parametrize(
    ("who", "remedy"),
    [
        (
            "mallory:security",
            "hint: a person whom the trust bundle names has to sign; `carnet-gateway trust show DIR` shows who they are",
        ),
        ("bob:legal", "hint: sign it again, with --as bob:security"),
        ("olga:export-control", "hint: sign it again, with --as olga:security"),
        ("carol:export-control", "hint: ask a person of the role security"),
    ],
)
async def test_who_may_not_close_a_duty_is_told_who_may(border, tmp_path, capsys, who, remedy):
    border.us.set_policy(policy("us", one("notify", "role: security, within_h: 1")))
    await border.start()
    await push(border, tmp_path)
    [duty] = await duties(border.us)
    person, _, role = who.partition(":")
    (tmp_path / "signed").write_bytes(signed(duty, person, role, key="bob" if person == "mallory" else person).encode())

    words = ["duty", "done", str(border.us.directory), str(tmp_path / "signed")]
    status = await asyncio.to_thread(run, build_app(), "carnet-gateway", words)

    assert (status, capsys.readouterr().err.splitlines()[-1]) == (7, remedy)


async def command(capsys, *arguments: str) -> str:
    status = await asyncio.to_thread(run, build_app(), "carnet-gateway", list(arguments))
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


async def test_a_review_that_the_permit_of_the_offer_asks_for_cannot_be_done_before_the_release_either(border, tmp_path):
    """At the offer nothing is let go that anybody can read."""
    border.us.set_policy(policy("us", one("review", "role: security, within_h: 72")) + HOLD)
    await border.start()
    view = await push(border, tmp_path, wait=Wait.RECEIVED)
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "release-hold")

    assert await duties(border.us) == []
    await approve(border, view.transfer, "bob", "security")
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "delivered")
    assert [duty.kind for duty in await duties(border.us)] == ["review"]


async def test_whoever_reviewed_a_transfer_approves_nothing_of_it_afterwards(border, tmp_path):
    """Approvals can be asked for anew after a release that was reviewed, while its key may be on the way."""
    border.us.set_policy(policy("us", one("review", "role: security, within_h: 72")) + HOLD)
    await border.start()
    view = await push(border, tmp_path)
    await approve(border, view.transfer, "bob", "security")
    await border.until(view.transfer, lambda one: one.deliveries[0].state == "delivered")
    [review] = await duties(border.us)
    await close(border.us, review, "olga", "security")
    async with open_site(border.us.directory) as opened:
        held = await push_held(border, tmp_path)
        await opened.catalog.write(lambda tx: copy_review(tx, view.transfer, held.transfer))

    with pytest.raises(NotAuthorised, match="olga reviewed what was let go"):
        await approve(border, held.transfer, "olga", "security")
    await approve(border, held.transfer, "bob", "security")


async def test_of_a_declaration_that_is_refused_only_what_the_denial_asks_for_is_a_duty(tmp_path):
    report, notify = one("report", "channel: bis-export, within_h: 24"), one("notify", "role: legal, within_h: 1")
    no_jp = "  - {id: no, at: [offer], when: {destination.site: jp}, effect: deny, reason: no, remedy: none, obligations: [OF]}\n"
    await make_template(tmp_path / "made", "us-eu=us:eu,jp", ("jp",))
    async with world_from(tmp_path / "made", tmp_path / "world", start=False) as world:
        world.us.set_policy(policy("us", report) + no_jp.replace("OF", notify))
        await world.start()
        with pytest.raises(Refused, match="rule no"):
            await push(world, tmp_path, destinations=(SiteName("eu"), SiteName("jp")))

        assert [duty.words for duty in await duties(world.us)] == ["notify by legal"]


async def test_refusals_of_one_agent_make_one_duty_as_long_as_it_is_open(border, tmp_path):
    report = one("report", "channel: ddtc-126-1-e-2, within_h: 24")
    border.us.set_policy(
        policy("us")
        + "  - {id: no, at: [offer], when: {purpose: arms}, effect: deny, reason: no, remedy: none, "
        + f"obligations: [{report}]}}\n"
    )
    await border.start()

    async def refused() -> list[KeptDuty]:
        for number in range(3):
            with pytest.raises(Refused, match="rule no"):
                await push(border, tmp_path, number, declare={"purpose": "arms"})
        return await duties(border.us)

    [first] = await refused()
    await close(border.us, first, "bob", "security")
    again = await refused()

    assert [duty.done is None for duty in sorted(again, key=lambda duty: duty.id != first.id)] == [False, True]


async def push_held(border: World, tmp_path):
    view = await push(border, tmp_path, 2, wait=Wait.RECEIVED)
    return await border.until(view.transfer, lambda one: one.deliveries[0].state == "release-hold")


def copy_review(tx, reviewed, held) -> None:
    """Let the review of one transfer be one of another too."""
    [(name, body)] = tx.documents(reviewed, "reviewed/").items()
    tx.put_document(held, name, body)
