"""Obligations at a border: conditions hold, copies are written, destinations keep to terms."""

import asyncio
import errno
import json
import os
import secrets
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.checkpoint import log_origin
from carnet.entries import EntryType
from carnet.errors import Refused
from carnet.identifiers import LaneName, Repository, SiteName, Tag, TransferId
from carnet.messages import DeclareRequest
from carnet.oci import ArtifactKind
from carnet.policy.replay import DecisionInputs
from carnet.proof import EntryProof, verify_entry_proof
from carnet.statement import parse_model
from carnet.timestamps import format_time, parse_time
from carnet.waybill import Declarations
from gateway import assembly
from gateway.copying import copies_due
from gateway.doctor.obliged import examine_copies
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from gateway.storage.copies import CopyStore
from gateway.storage.durable import write_durable
from tests.crossing.obliged import HOLD, one, policy, push
from tests.crossing.officers import ROOT_KEY, appoint_both
from tests.crossing.sites import LiveSite, World, push_in
from tests.promises.kills import noise

DEADLINE_S = 60


@pytest.fixture
async def border(cold_world: World) -> World:
    await appoint_both(cold_world, floor=())
    cold_world.eu.set_policy(policy("eu"))
    return cold_world


def place(site: LiveSite, region: str, directory: Path, mode: str = "full", *, is_mounted: bool = True) -> None:
    if is_mounted:
        (directory / site.name).mkdir(parents=True)
    with (site.directory / "gateway.toml").open("a") as settings:
        settings.write(f'[[copies]]\nregion = "{region}"\ndirectory = "{directory}"\nmode = "{mode}"\n')


@pytest.mark.parametrize(
    ("obligation", "words"),
    [
        (one("suite", "fips: true"), "FIPS 140-3"),
        (one("custody", "sites: [us]"), "eu would hold a key"),
        (one("custody", "regions: [US, FR]"), "eu would hold a key"),
        (one("log-copy", "region: FR, mode: full"), "a copy of the record in FR, and this site has no place"),
        (one("log-copy", "region: DE, mode: full"), "a copy of the record in DE, and this site has no place"),
        (one("log-copy", "region: FR, mode: hash"), "the hashes of the record in FR"),
    ],
)
async def test_what_a_site_cannot_meet_holds_what_its_policy_would_allow(border, tmp_path, obligation, words):
    border.us.set_policy(policy("us", obligation))
    await border.start()

    view = await push(border, tmp_path)

    assert view.deliveries[0].state == "offer-hold"
    [reason] = view.deliveries[0].reasons
    assert (reason.rule, words in reason.text) == ("obligation", True)
    assert border.eu.stored() == []


@pytest.mark.parametrize(
    "obligation",
    [
        one("custody", "sites: [us, eu]"),
        one("custody", "sites: [us], regions: [EU]"),
        one("log-copy", "region: US, mode: full"),
        one("log-copy", "region: EU, mode: hash"),
        one("retain", "years: 10"),
    ],
)
async def test_what_a_site_meets_by_itself_holds_nothing(border, tmp_path, obligation):
    border.us.set_policy(policy("us", obligation))
    await border.start()

    assert (await push(border, tmp_path)).deliveries[0].state == "delivered"


async def test_persons_are_not_asked_to_approve_what_the_site_could_not_carry_out(border, tmp_path):
    text = policy("us", one("custody", "sites: [us]")).replace("at: [offer, release, receipt]", "at: [release]") + HOLD
    border.us.set_policy(text + "  - {id: go, at: [offer], effect: allow, reason: ciphertext may go}\n")
    await border.start()

    view = await push(border, tmp_path)

    assert view.deliveries[0].state == "release-hold"
    assert view.deliveries[0].approvals is None
    assert [reason.rule for reason in view.deliveries[0].reasons] == ["obligation"]


async def test_each_decision_is_copied_to_the_region_that_the_policy_names_and_can_be_checked_there(border, tmp_path):
    far, hashes = tmp_path / "far", tmp_path / "hashes"
    place(border.us, "FR", far)
    place(border.us, "JP", hashes, "hash")
    border.us.set_policy(policy("us", one("log-copy", "region: FR, mode: full"), one("log-copy", "region: JP, mode: hash")))
    await border.start()

    view = await push(border, tmp_path)
    await written(border.us)

    assert view.deliveries[0].state == "delivered"
    [offer, release] = [json.loads(path.read_bytes()) for path in sorted((far / "us").iterdir())]
    bundle = await bundle_of(border.us)
    key, origin = bundle.site(SiteName("us")).signing_key, log_origin(bundle.trust_domain, SiteName("us"))
    for copy, kind in ((offer, EntryType.DECISION_OFFER), (release, EntryType.DECISION_RELEASE)):
        proof = parse_model(EntryProof, copy["proof"])
        entry = verify_entry_proof(proof, log_origin=origin, key=key)
        entry.require(kind, {"transfer": str(view.transfer)})
        inputs = parse_model(DecisionInputs, copy["inputs"])
        assert inputs.gate.value in kind.value
        assert copy["decision"]["payloadType"] == "application/vnd.carnet.decision.v1+json"
    for path in (hashes / "us").iterdir():
        assert set(json.loads(path.read_bytes())) == {"site", "region", "mode", "proof"}
    assert len(list((hashes / "us").iterdir())) == 2


async def test_storage_that_is_not_mounted_is_not_written_beside_and_after_a_while_holds_what_asks_for_more(border, tmp_path):
    far = tmp_path / "far"
    place(border.us, "FR", far, is_mounted=False)
    border.us.set_policy(policy("us", one("log-copy", "region: FR, mode: full")))
    await border.start()
    assert (await push(border, tmp_path)).deliveries[0].state == "delivered"
    await until_tried(border.us)
    await make_late_copies(border.us)

    async with open_site(border.us.directory) as opened:
        told = await opened.catalog.read(lambda tx: list(examine_copies(tx, SiteName("us"), opened.settings.copies)))
    held = await push(border, tmp_path, 2)
    (far / "us").mkdir(parents=True)
    await written(border.us)
    third = await push(border, tmp_path, 3)

    assert [(one.severity.value, one.status) for one in told] == [("fail", 5), ("fail", 2), ("ok", 0)]
    assert held.deliveries[0].state == "offer-hold"
    assert "an earlier record in FR waits to be written since" in held.deliveries[0].reasons[0].text
    assert third.deliveries[0].state == "delivered"
    await written(border.us)
    assert len(list((far / "us").iterdir())) >= 4


async def test_storage_that_hangs_is_late_like_any_other_and_is_written_when_it_answers(border, tmp_path, monkeypatch):
    answers = threading.Event()

    def slow(path: Path, data: bytes) -> None:
        answers.wait(DEADLINE_S)
        write_durable(path, data)

    monkeypatch.setattr(assembly, "CopyStore", lambda: CopyStore(write_s=0.2, write=slow))
    place(border.us, "FR", tmp_path / "far")
    border.us.set_policy(policy("us", one("log-copy", "region: FR, mode: full")))
    await border.start()
    assert (await push(border, tmp_path)).deliveries[0].state == "delivered"
    await until_tried(border.us)
    await make_late_copies(border.us)

    held = await push(border, tmp_path, 2)
    answers.set()
    await written(border.us)

    assert held.deliveries[0].state == "offer-hold"
    assert len(list((tmp_path / "far" / "us").iterdir())) >= 2


@pytest.mark.parametrize("trouble", ["hangs", "is gone"])
async def test_storage_in_trouble_keeps_no_other_region_waiting(border, tmp_path, monkeypatch, trouble):
    """Of a share whose server is gone the operating system says so for every look at it: on Python 3.11 also `is_dir` raises."""
    answers, loop, copies = threading.Event(), asyncio.get_running_loop(), asyncio.Queue[str]()
    places, real = {region: tmp_path / region for region in ("AU", "FR")}, os.stat

    def stat(path, *given, **named):
        if trouble == "is gone" and not answers.is_set() and str(path).startswith(str(places["AU"])):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(path, *given, **named)

    def write(path: Path, data: bytes) -> None:
        assert "AU" not in str(path) or answers.wait(5 * DEADLINE_S)
        write_durable(path, data)
        loop.call_soon_threadsafe(copies.put_nowait, path.parts[-3])

    for region, directory in places.items():
        place(border.us, region, directory)
    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(assembly, "CopyStore", lambda: CopyStore(write_s=10 * DEADLINE_S, write=write))
    asked = [one("log-copy", f"region: {region}, mode: full") for region in places]
    border.us.set_policy(policy("us", *asked))
    await border.start()
    try:
        for number in (1, 2):
            assert (await push(border, tmp_path, number)).deliveries[0].state == "delivered"
            async with asyncio.timeout(DEADLINE_S):
                assert [await copies.get() for _gate in ("offer", "release")] == ["FR", "FR"]
        if trouble == "is gone":
            async with open_site(border.us.directory) as opened:
                told = await opened.catalog.read(lambda tx: list(examine_copies(tx, SiteName("us"), opened.settings.copies)))
            [failing] = [one for one in told if one.severity.value == "fail"]
            assert f"{places['AU']}/us, for copies in AU, cannot be looked at: Stale file handle" in failing.said
    finally:
        answers.set()

    await push(border, tmp_path, 3)
    await written(border.us)
    assert [len(list((directory / "us").iterdir())) for directory in places.values()] == [6, 6]


async def test_a_copy_without_a_place_keeps_no_other_region_waiting(border, tmp_path):
    """The rule that holds asks for a copy where this site has no place; what others ask for goes on."""
    place(border.us, "FR", tmp_path / "far")
    held = "  - {id: no, at: [offer], when: {purpose: wait}, effect: hold, reason: wait, remedy: wait, obligations: ["
    text = policy("us", one("log-copy", "region: FR, mode: full")) + held + one("log-copy", "region: AU, mode: full") + "]}\n"
    border.us.set_policy(text)
    await border.start()
    waits = await push(border, tmp_path, 1, declare={"purpose": "wait"})
    assert waits.deliveries[0].state == "offer-hold"
    await make_late_copies(border.us)

    assert (await push(border, tmp_path, 2)).deliveries[0].state == "delivered"
    async with open_site(border.us.directory) as opened, asyncio.timeout(DEADLINE_S):
        while [*await opened.catalog.read(lambda tx: tx.site_documents("log-copy/FR"))]:
            await asyncio.sleep(0.02)
        assert len(await opened.catalog.read(lambda tx: tx.site_documents("log-copy/AU"))) == 1


async def test_what_came_on_the_terms_of_no_onward_sending_goes_nowhere_else_even_after_it_was_deleted(border, tmp_path):
    for site in border.sites:
        async with open_site(site.directory) as opened:
            change = Change(lanes=(parse_lane("eu-us=eu:us"),))
            bundle = propose(opened.trust.current(), change, datetime.now(UTC))
            await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)
    border.us.set_policy(policy("us", one("no-onward")))
    await border.start()
    view = await push(border, tmp_path)
    onward = {"lane": LaneName("eu-us"), "destinations": (SiteName("us"),)}

    async with open_session(border.eu.agent) as session:
        first = await push_in(session, f"file:{tmp_path / '1'}", "us:again:v1", **onward)
        await session.client.delete_artifact(Repository("app"), Tag("v1"))
        second = await push_in(session, f"file:{tmp_path / '1'}", "us:again:v2", **onward)
        await push_in(session, f"file:{tmp_path / '1'}", "here:v1")
        guess = DeclareRequest(
            transfer=TransferId(secrets.token_hex(16)),
            lane=LaneName("eu-us"),
            repository=Repository("again"),
            tag=Tag("v3"),
            kind=ArtifactKind.FILE,
            media_type="application/octet-stream",
            digest=view.digest,
            declarations=Declarations(),
            destinations=(SiteName("us"),),
            dry_run=True,
        )
        assert (await session.client.declare(guess)).advice.outcome == "allow"  # a digest alone tells nobody what is here
        other = await push_in(session, f"file:{noise(tmp_path / 'other', 3000, 9)}", "us:other:v1", **onward)

    assert view.deliveries[0].state == other.view.deliveries[0].state == "delivered"
    for denied in (first, second):
        [delivery] = denied.view.deliveries
        assert (delivery.state, delivery.reasons[0].rule) == ("offer-deny", "no-onward")
        assert "came here on the terms that it goes to no other site" in delivery.reasons[0].text
        assert view.transfer not in delivery.reasons[0].text


async def test_a_destination_deletes_for_itself_when_the_terms_say_so_and_proves_it(border, tmp_path):
    border.us.set_policy(policy("us", one("delete-after", "days: 7")))
    border.eu.set_policy(policy("eu", one("delete-after", "days: 9")))
    await border.start()
    view = await push(border, tmp_path)
    delivered = datetime.now(UTC)
    async with open_site(border.eu.directory) as opened:

        def bring_forward(tx):
            kept = tx.document(view.transfer, "delete-at").decode()
            tx.put_document(view.transfer, "delete-at", format_time(datetime.now(UTC)).encode())
            tx.queue_job("delete-after", view.transfer)
            return kept

        at = await opened.catalog.write(bring_forward)

    ended = await border.until(
        view.transfer, lambda one: one.deliveries[0].recall is not None and one.deliveries[0].recall.receipt
    )

    assert abs((datetime.fromisoformat(at) - delivered) - timedelta(days=7)) < timedelta(minutes=2)
    assert ended.deliveries[0].state == "recalled"
    assert ended.deliveries[0].recall.cause == "expired"
    assert "delete-after" in ended.deliveries[0].recall.reason
    assert border.eu.stored() == []
    assert ended.state == "admitted"
    with pytest.raises(Refused, match="E-RECALLED"):
        await border.pull(border.eu, "app:v1", f"file:{tmp_path / 'late'}")


async def test_nothing_is_deleted_before_its_time(border, tmp_path):
    border.us.set_policy(policy("us", one("delete-after", "days: 7")))
    await border.start()
    view = await push(border, tmp_path)
    async with open_site(border.eu.directory) as opened:
        await opened.catalog.write(lambda tx: tx.queue_job("delete-after", view.transfer))
        async with asyncio.timeout(30):
            while await opened.catalog.read(lambda tx: tx.next_job_due(["delete-after"])) < datetime.now(UTC) + timedelta(days=6):
                await asyncio.sleep(0.02)

    assert (await border.show(view.transfer)).deliveries[0].state == "delivered"


async def test_what_is_retained_is_there_when_everything_else_has_gone(border, tmp_path):
    border.us.set_policy(policy("us", one("retain", "years: 10")))
    await border.start()
    view = await push(border, tmp_path)
    from tests.crossing.test_recall import NAME, recalled

    await recalled(border, NAME)

    for site, gates in ((border.us, ("offer", "release")), (border.eu, ("receipt",))):
        async with open_site(site.directory) as opened:
            kept = await opened.catalog.read(lambda tx: tx.documents(TransferId(view.transfer), "decision"))
        for gate in gates:
            assert f"decision/{gate}/eu" in kept
            assert f"decision-inputs/{gate}/eu" in kept


async def bundle_of(site: LiveSite):
    async with open_site(site.directory) as opened:
        return opened.trust.state().current


async def written(site: LiveSite) -> None:
    async with open_site(site.directory) as opened, asyncio.timeout(60):
        while await opened.catalog.read(copies_due) != (0, None):
            await asyncio.sleep(0.02)


async def until_tried(site: LiveSite) -> None:
    """Return once a copy could not be written."""
    async with open_site(site.directory) as opened, asyncio.timeout(DEADLINE_S):
        while not any(one.kind == "copy-log" and one.failing for one in await opened.catalog.read(lambda tx: tx.tally_jobs())):
            await asyncio.sleep(0.02)


async def make_late_copies(site: LiveSite) -> None:
    """Let every copy that is to be written have waited for sixteen minutes more."""

    def change(tx):
        for name in tx.site_documents("log-copy/"):
            head, kind, at, index = name.split("/")
            early = format_time(parse_time(at) - timedelta(minutes=16))
            tx.delete_site_document(name)
            tx.put_site_document(f"{head}/{kind}/{early}/{index}", b"due")

    async with open_site(site.directory) as opened:
        await opened.catalog.write(change)
