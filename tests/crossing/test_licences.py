"""Licences and attestations at a border: what people signed is what policy reads, and no more is released than there is."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from agent.push import Wait
from carnet.attestation import Attestation
from carnet.entries import EntryType
from carnet.errors import CallerError, Conflict, Held, Refused
from carnet.flow.commandline import run
from carnet.identifiers import SiteName
from carnet.keys import encode_private_key
from carnet.licence import Licence, Used
from carnet.policy import Assurance, Fact, combine, parse_policy
from carnet.timestamps import format_time
from carnet.waybill import Declarations
from gateway.cli import build_app
from gateway.doctor.accounts import examine_ledger
from gateway.ledger import total_used
from gateway.offline import open_site
from gateway.replaying import replay_transfer
from gateway.vouched import (
    Trusted,
    attestations,
    keep_attestation,
    keep_licence,
    vouch,
    withdraw_attestation,
    withdraw_licence,
)
from tests.crossing.officers import KEYS, appoint_both, approve
from tests.crossing.sites import LiveSite, World, know_each_other
from tests.promises.border import verified_log
from tests.promises.kills import noise

POLICY = """
apiVersion: carnet/policy/v1
kind: Policy
metadata: {id: us, version: 1, owner: the tests}
attested_by:
  export-control: [licence.*, recipient.groups, export.number]
rules:
  - {id: ordinary, at: [offer, release, receipt], effect: allow, reason: in order}
  - id: needs-a-licence
    at: [release]
    unless: {licence.kind: TAA, licence.covers: true, licence.valid: true, licence.remaining: true}
    effect: deny
    reason: a key needs an agreement with releases left
    remedy: name the agreement
"""
OR_A_USER = POLICY.replace("unless: {licence", "unless:\n      - {recipient.groups: trusted-user}\n      - {licence")
TODAY = datetime.now(UTC).date()


def licence(**changes) -> Licence:
    fields = {
        "id": "TAA-7",
        "edition": 1,
        "kind": "TAA",
        "items": ("5D002",),
        "valid_from": str(TODAY - timedelta(days=1)),
        "valid_until": str(TODAY + timedelta(days=30)),
        "quantity": 2,
        "shares": ({"site": "us", "quantity": 2},),
    }
    return Licence.model_validate(fields | changes)


def attestation(**changes) -> Attestation:
    fields = {
        "id": "eu-users",
        "edition": 1,
        "about": {"site": "eu"},
        "facts": {"recipient.groups": ["trusted-user"]},
        "at": format_time(datetime.now(UTC) - timedelta(hours=1)),
        "not_after": format_time(datetime.now(UTC) + timedelta(days=9)),
    }
    return Attestation.model_validate(fields | changes)


def declared(**changes) -> Declarations:
    return Declarations(**({"licence": "TAA-7", "export_control_number": "5D002"} | changes))


async def keep(site: LiveSite, *papers: Licence | Attestation, by: str = "carol") -> None:
    """Put what somebody signed into the site's catalog, also while it runs."""
    async with open_site(site.directory) as opened:
        for paper in papers:
            take = keep_licence if isinstance(paper, Licence) else keep_attestation
            await opened.catalog.write(lambda tx, take=take, paper=paper: take(tx, paper.sign(KEYS[by])))


async def left(site: LiveSite, name: str = "TAA-7") -> int:
    async with open_site(site.directory) as opened:
        return (await opened.catalog.read(lambda tx: total_used(tx, name))).quantity


@pytest.fixture
async def border(cold_world: World) -> World:
    await appoint_both(cold_world, floor=())
    for site in cold_world.sites:
        allows_all = POLICY.partition("  - id: needs")[0].replace("{id: us", "{id: eu")
        site.set_policy(POLICY if site.name == "us" else allows_all)
    return cold_world


async def push(world: World, source: Path, tag: str, **said):
    return await world.push(f"file:{source}", f"eu:app:{tag}", declare=declared(**said))


async def test_a_licence_for_two_releases_lets_two_go_and_the_third_is_denied_by_the_rule(border: World, tmp_path: Path):
    await keep(border.us, licence())
    await border.start()
    for number in (1, 2):
        pushed = await push(border, noise(tmp_path / f"{number}", 1000, number), f"v{number}")
        assert pushed.view.deliveries[0].state == "delivered"
    [third] = (await push(border, noise(tmp_path / "3", 1000, 3), "v3")).view.deliveries

    assert (third.state, third.reasons[0].rule) == ("release-deny", "needs-a-licence")
    assert await left(border.us) == 2
    await border.us.stop()
    found = await verified_log(border.us)
    assert found[EntryType.LICENCE_DEBITED] == 2


async def test_of_many_releases_at_once_no_more_go_than_the_licence_has(border: World, tmp_path: Path):
    await keep(border.us, licence())
    await border.start()
    ended = await asyncio.gather(*(push(border, noise(tmp_path / f"{n}", 1000, n), f"v{n}") for n in range(6)))

    assert sorted(one.view.deliveries[0].state for one in ended) == ["delivered"] * 2 + ["release-deny"] * 4
    assert await left(border.us) == 2


async def test_a_release_that_waits_uses_nothing_until_it_is_approved(border: World, tmp_path: Path):
    border.us.set_policy(POLICY + WAITS)
    await keep(border.us, licence())
    await border.start()
    held = (await push(border, noise(tmp_path / "a", 1000), "v1")).view

    assert (held.deliveries[0].state, await left(border.us)) == ("release-hold", 0)
    await approve(border, held.transfer, "bob", "security")
    await border.until(held.transfer, lambda view: view.deliveries[0].state == "delivered")
    assert await left(border.us) == 1


async def test_a_licence_that_nobody_keeps_or_whose_signer_has_no_say_makes_no_fact(border: World, tmp_path: Path):
    await keep(border.us, licence(), by="bob")  # of security: the policy names export-control
    await border.start()
    for declaration in ({}, {"licence": "TAA-8"}):
        pushed = await push(border, noise(tmp_path / "a", 1000), "v1", **declaration)
        [delivery] = pushed.view.deliveries
        assert delivery.state == "release-hold"
        [reason] = [one for one in delivery.reasons if one.rule == "needs-a-licence"]
        assert "licence.kind" in reason.text
        assert reason.remedy.endswith("comes from whoever keeps licences: `carnet-gateway licence add`")
    assert await left(border.us) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"valid_until": str(TODAY - timedelta(days=1))},
        {"items": ("5E002",)},
        {"destinations": ("AU",)},
        {"shares": ({"site": "uk", "quantity": 2},)},
        {"kind": "SCC"},
    ],
)
async def test_a_licence_that_is_over_or_for_something_else_releases_nothing(border: World, tmp_path: Path, changes):
    await keep(border.us, licence(**changes))
    await border.start()
    [delivery] = (await push(border, noise(tmp_path / "a", 1000), "v1")).view.deliveries

    assert (delivery.state, delivery.reasons[0].rule) == ("release-deny", "needs-a-licence")
    assert await left(border.us) == 0


async def test_who_is_authorised_needs_no_licence_until_the_word_ends_or_is_withdrawn(border: World, tmp_path: Path):
    border.us.set_policy(OR_A_USER)
    await keep(border.us, attestation())
    await border.start()
    pushed = await push(border, noise(tmp_path / "a", 1000), "v1", licence=None)
    assert pushed.view.deliveries[0].state == "delivered"

    over = {"at": format_time(datetime.now(UTC) - timedelta(days=2)), "not_after": format_time(datetime.now(UTC))}
    await keep(border.us, attestation(edition=2, **over))
    later = await push(border, noise(tmp_path / "b", 1000, 2), "v2", licence=None)
    assert later.view.deliveries[0].state == "release-hold"


async def test_what_was_allowed_upon_a_word_waits_again_once_that_is_withdrawn(border: World, tmp_path: Path):
    """The offer is allowed while eu cannot be reached; before a byte can go the word is taken back."""
    border.us.set_policy(OR_A_USER.replace("at: [release]", "at: [offer]"))
    await keep(border.us, attestation())
    await border.start()
    await border.eu.stop()
    source = f"file:{noise(tmp_path / 'a', 1000)}"
    sent = await border.push(source, "eu:app:v1", declare=declared(licence=None), wait=Wait.DECIDED)
    assert sent.view.deliveries[0].outcome == "allow"
    await border.us.stop()
    async with open_site(border.us.directory) as opened:
        await opened.catalog.write(lambda tx: withdraw_attestation(tx, "eu-users", "she left"))
    await border.start()
    await know_each_other(border)
    view = await border.until(sent.view.transfer, lambda one: one.deliveries[0].state == "offer-hold")

    assert view.deliveries[0].reasons[0].rule == "needs-a-licence"
    assert border.eu.stored() == []


async def test_a_licence_without_room_releases_nothing_although_no_rule_asks_what_it_has_left(border: World, tmp_path: Path):
    border.us.set_policy(POLICY.replace(", licence.remaining: true", ""))
    await keep(border.us, licence(quantity=1, shares=({"site": "us", "quantity": 1},)))
    await border.start()
    first, second = [(await push(border, noise(tmp_path / f"{n}", 1000, n), f"v{n}")).view.deliveries[0] for n in (1, 2)]

    assert (first.state, second.state) == ("delivered", "release-deny")
    assert second.reasons[0].rule == "licence-room"


async def test_a_limit_of_value_counts_what_was_declared_in_its_currency(border: World, tmp_path: Path):
    worth = {"quantity": 9, "value": 100, "currency": "EUR", "shares": ({"site": "us", "quantity": 9, "value": 100},)}
    border.us.set_policy(POLICY.replace(", licence.remaining: true", ""))
    await keep(border.us, licence(**worth))
    await border.start()
    said = ({}, {"value": 60, "currency": "USD"}, {"value": 60, "currency": "EUR"}, {"value": 41, "currency": "EUR"})
    found = [
        (await push(border, noise(tmp_path / f"{n}", 1000, n), f"v{n}", **one)).view.deliveries[0] for n, one in enumerate(said)
    ]

    assert [one.state for one in found] == ["release-hold", "release-hold", "delivered", "release-deny"]
    assert {one.reasons[0].rule for one in found if one.state != "delivered"} == {"licence-room"}


@pytest.mark.parametrize(
    "facts", [{"recipient.groups": "trusted-user"}, {"recipient.government": "no"}, {"origin.jurisdiction": "US"}]
)
async def test_a_word_of_the_wrong_type_or_about_what_a_site_finds_out_itself_is_not_kept(border: World, facts):
    with pytest.raises(CallerError) as refusal:
        await keep(border.us, attestation(facts=facts))

    assert refusal.value.code == "E-POLICY"


async def test_ages_of_what_was_attested_grow_and_do_not_change_what_people_approve(border: World):
    policy = combine([parse_policy(POLICY.replace("export.number]", "scan.hours]"), "p.yaml")])
    known = {"artifact.repository": Fact("app", Assurance.DECLARED, "waybill")}
    async with open_site(border.us.directory) as opened:
        trusted = Trusted(opened.trust.state().current, frozenset(), policy)
        paper = attestation(about={"repository": "app"}, facts={"scan.hours": 2}).sign(KEYS["carol"])
        await opened.catalog.write(lambda tx: keep_attestation(tx, paper))

        def ask(hours: int):
            now = datetime.now(UTC) + timedelta(hours=hours)
            return opened.catalog.read(
                lambda tx: vouch(tx, trusted, known, site=SiteName("us"), used=Used(), artifact=None, now=now)
            )

        early, late = await ask(0), await ask(5)

    assert (early.facts["scan.hours"].value, late.facts["scan.hours"].value) == (3, 8)
    assert early.signed == late.signed == {"scan.hours": 2}


async def test_what_the_sender_and_a_person_say_differently_is_held_whatever_the_rules_say(border: World, tmp_path: Path):
    said = {"about": {"repository": "app"}, "facts": {"export.number": "5E002"}}
    await keep(border.us, attestation(), attestation(id="class", **said))
    await border.start()
    held = (await push(border, noise(tmp_path / "a", 1000), "v1")).view

    [delivery] = held.deliveries
    assert (delivery.state, delivery.reasons[0].rule) == ("offer-hold", "facts-differ")
    assert "export.number: waybill and attestation class, edition 1, by carol say different things" in delivery.reasons[0].text


async def test_nobody_approves_what_rests_on_facts_that_contradict_each_other(border: World, tmp_path: Path):
    border.us.set_policy(POLICY + WAITS.replace("[release]", "[offer]"))
    said = {"about": {"repository": "app"}, "facts": {"export.number": "5E002"}}
    await keep(border.us, attestation(id="class", **said))
    await border.start()
    [delivery] = (await push(border, noise(tmp_path / "a", 1000), "v1")).view.deliveries

    assert (delivery.state, [one.rule for one in delivery.reasons]) == ("offer-hold", ["facts-differ"])
    assert delivery.approvals is None


async def test_a_pull_that_rests_on_a_word_ends_with_it(border: World, tmp_path: Path):
    """At eu only those may pull who are authorised, whom carol names for a time."""
    border.us.set_policy(OR_A_USER)
    border.eu.set_policy(POLICY.partition("  - id: needs")[0].replace("{id: us", "{id: eu") + FOR_THE_NAMED)
    who = {"about": {"site": "eu"}, "facts": {"recipient.groups": ["trusted-user"]}}
    await keep(border.us, attestation())
    await border.start()
    await push(border, noise(tmp_path / "a", 1000), "v1", licence=None)
    with pytest.raises(Held, match=r"recipient.groups is not known.*E-HELD"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'early'}")

    await keep(border.eu, attestation(**who))
    await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'out'}")
    await keep(border.eu, attestation(edition=2, **who | {"facts": {"recipient.groups": ["somebody-else"]}}))
    with pytest.raises(Refused, match=r"only who is authorised.*rule named"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'late'}")

    assert (tmp_path / "out").read_bytes() == (tmp_path / "a").read_bytes()


async def test_a_ledger_that_was_set_back_is_found_by_doctor(border: World, tmp_path: Path):
    await keep(border.us, licence())
    await border.start()
    await push(border, noise(tmp_path / "a", 1000), "v1")
    async with open_site(border.us.directory) as opened:
        before = await opened.catalog.read(examine_ledger)
        await opened.catalog.write(lambda tx: tx.delete_site_document("licence-total/TAA-7"))
        after = await opened.catalog.read(examine_ledger)

    assert (before.severity.value, after.severity.value, after.status) == ("ok", "fail", 6)
    assert after.said == "0 releases are counted upon licences, the log has 1"


async def test_the_decision_names_the_licence_and_comes_out_the_same_again(border: World, tmp_path: Path):
    await keep(border.us, licence())
    await border.start()
    pushed = await push(border, noise(tmp_path / "a", 1000), "v1")
    async with open_site(border.us.directory) as opened:
        replayed = await opened.catalog.read(lambda tx: replay_transfer(tx, tx.log_entry, pushed.view.transfer, None))

    assert [(one.inputs.gate, one.is_same) for one in replayed] == [("offer", True), ("release", True)]
    fact = replayed[1].inputs.facts["licence.remaining"]
    assert (fact.value, fact.assurance, fact.source) == (True, "attested", "licence TAA-7, edition 1, by carol")


async def test_a_later_edition_about_something_else_takes_the_place_of_the_earlier_one(border: World):
    await keep(border.us, attestation(), attestation(edition=2, about={"site": "us"}))
    async with open_site(border.us.directory) as opened:
        kept = await opened.catalog.read(attestations)

    assert [(one.edition, one.about.key) for _, one in kept] == [(2, "site:us")]


async def test_an_edition_that_was_replaced_or_withdrawn_does_not_come_back(border: World):
    await keep(border.us, licence(), licence(edition=2))
    async with open_site(border.us.directory) as opened:
        await opened.catalog.write(lambda tx: withdraw_licence(tx, "TAA-7", "it ended"))
    with pytest.raises(Conflict) as again:
        await keep(border.us, licence(edition=2))

    assert again.value.code == "E-EDITION"


WAITS = """
  - {id: look, at: [release], effect: hold, reason: look first, remedy: look, approvals: [{role: security}]}
"""
FOR_THE_NAMED = """
  - id: named
    at: [release]
    unless: [{recipient.groups: trusted-user}, {recipient.kind: gateway}]
    effect: deny
    reason: only who is authorised may pull
    remedy: ask carol
"""


@pytest.fixture
def desk(border: World, tmp_path: Path, capsys):
    """Return `run`: it runs `carnet-gateway` and returns status, output and complaint."""
    for name in ("bob", "carol"):
        path = tmp_path / f"{name}.key"
        path.write_text(encode_private_key(KEYS[name]))
        path.chmod(0o600)

    def ask(*words: str) -> tuple[int, str, str]:
        status = run(build_app(), "carnet-gateway", list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return ask


def written(path: Path, paper: Licence | Attestation) -> str:
    """Write a document as somebody would by hand."""
    path.write_text(yaml.safe_dump(paper.to_json(), default_flow_style=None))
    return str(path)


async def test_people_sign_and_operators_keep_with_the_commands(desk, border: World, tmp_path: Path):
    site, key = str(border.us.directory), str(tmp_path / "carol.key")
    for kind, paper in (("licence", licence()), ("attest", attestation())):
        status, out, err = await asyncio.to_thread(desk, kind, "sign", written(tmp_path / "p.yaml", paper), "--key", key)
        assert status == 0, err
        (tmp_path / "signed.json").write_text(out)
        status, out, err = await asyncio.to_thread(desk, kind, "add", site, str(tmp_path / "signed.json"))
        assert (status, "edition 1, " in out, "carol" in out) == (0, True, True), err
        status, out, _ = await asyncio.to_thread(desk, kind, "list", site)
        assert paper.id in out
    status, out, _ = await asyncio.to_thread(desk, "licence", "show", site, "TAA-7", "--json")
    assert (status, json.loads(out)["left"], json.loads(out)["uses"]) == (0, "2 of 2 releases left", [])
    status, out, _ = await asyncio.to_thread(desk, "attest", "withdraw", site, "eu-users", "--reason", "she left")
    status, out, _ = await asyncio.to_thread(desk, "attest", "list", site)
    assert out == "no attestation is kept here\n"


async def test_what_nobody_with_a_say_signed_is_not_kept_and_the_error_names_who_could(desk, border: World, tmp_path: Path):
    key = str(tmp_path / "bob.key")
    status, out, _ = await asyncio.to_thread(desk, "licence", "sign", written(tmp_path / "p.yaml", licence()), "--key", key)
    (tmp_path / "signed.json").write_text(out)
    status, _, err = await asyncio.to_thread(desk, "licence", "add", str(border.us.directory), str(tmp_path / "signed.json"))

    assert status == 7
    assert "the word of bob does not count for licence.kind; the policy names: export-control" in err


GROUPS = """
apiVersion: carnet/groups/v1
id: ours
source: our lawyers
reviewed_by: carol
reviewed_on: 2026-01-01
effective_from: 2026-01-01
effective_until: 2099-12-31
codes: [UK]
"""


async def add(desk, site: LiveSite, path: Path, paper: Licence | Attestation, *options: str) -> tuple[int, str, str]:
    """Add what carol signed with another program, which looks at nothing."""
    path.write_bytes(paper.sign(KEYS["carol"]).encode())
    kind = "licence" if isinstance(paper, Licence) else "attest"
    return await asyncio.to_thread(desk, kind, "add", str(site.directory), str(path), *options)


async def test_a_licence_for_a_country_that_no_file_of_groups_of_the_site_knows_is_not_kept(desk, border: World, tmp_path: Path):
    paper = licence(destinations=("UK",))
    status, _, err = await add(desk, border.us, tmp_path / "signed.json", paper)
    assert (status, "signed.json: no file of groups knows the code UK" in err) == (2, True)

    groups = border.us.directory / "policy" / "groups"
    groups.mkdir()
    (groups / "ours.yaml").write_text(GROUPS)
    assert (await add(desk, border.us, tmp_path / "signed.json", paper))[0] == 0


async def test_a_fact_that_there_is_not_is_told_before_anybody_is_asked_whose_word_counts(desk, border: World, tmp_path: Path):
    said = {"recipient.endd_use": "deploy"}
    status, _, err = await add(desk, border.us, tmp_path / "signed.json", attestation(facts=said))

    assert status == 2
    assert "no fact is called recipient.endd_use; is recipient.end_use meant? [E-POLICY]" in err


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"site": "au"}, "no site of trust bundle 2 is called au"),
        ({"identity": "spiffe://example/site/au/agent/build"}, "no site of trust bundle 2 is called au"),
        ({"lane": "us-au"}, "no lane of trust bundle 2 is called us-au"),
    ],
)
async def test_an_attestation_about_what_the_trust_bundle_does_not_name_is_kept_with_a_warning(
    desk, border: World, tmp_path: Path, about, said
):
    status, out, err = await add(desk, border.us, tmp_path / "signed.json", attestation(about=about), "--json")

    assert (status, json.loads(out)["warnings"]) == (0, [f"{said}; the attestation counts for nothing until one is"])
    assert f"warning: {said}" in err


async def test_an_attestation_about_what_the_trust_bundle_names_is_kept_without_a_warning(desk, border: World, tmp_path: Path):
    for number, about in enumerate(({"site": "eu"}, {"lane": "us-eu"}, {"lane": "home"}, {"repository": "app"})):
        paper = attestation(id=f"n{number}", about=about)
        status, out, err = await add(desk, border.us, tmp_path / "signed.json", paper, "--json")
        assert (status, json.loads(out)["warnings"], err) == (0, [], "")
