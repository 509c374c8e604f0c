"""P8 in golden files: for each outcome the words on the command line, in the API and in what was signed and logged.

`CARNET_GOLDEN=write` writes the files anew; a reader of the change sees which words became others.
"""

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.session import open_session
from carnet.decision import Decision, Gate
from carnet.entries import LogEntry, check_opening
from carnet.identifiers import TransferId
from carnet.messages import ReasonView, TransferView
from gateway import documents
from gateway.offline import open_site
from gateway.proposals import Change, parse_lane, propose, sign_proposal, unsigned
from tests.crossing.officers import PEOPLE, ROOT_KEY
from tests.crossing.sites import POLICIES, LiveSite, World
from tests.promises.border import Border, carnet
from tests.promises.kills import noise

GOLDEN = Path(__file__).parent / "golden"
WRITES = os.environ.get("CARNET_GOLDEN") == "write"
MORE_OF_US = """
  - id: two-persons
    at: [release]
    when: {purpose: two-persons}
    effect: hold
    reason: two persons look first
    remedy: security and export control approve
    cite: [our own rule 7]
    approvals: [{role: security}, {role: export-control}]
  - id: who-owns-it
    at: [release]
    when: {purpose: who-owns-it, recipient.ownership_days: {max: 180}}
    effect: deny
    reason: the owner of the recipient is on a list
    remedy: there is none
  - id: copied-abroad
    at: [offer]
    when: {purpose: copied-abroad}
    effect: allow
    reason: once the record is in Japan too
    obligations: [{kind: log-copy, parameters: {region: JP, mode: full}}]
  - id: no-second-home
    at: [receipt]
    when: {purpose: deny-at-home}
    effect: deny
    reason: it may not be kept here
    remedy: push it elsewhere
"""
FIELDS = ("rule", "outcome", "text", "remedy", "cite")


@dataclass(frozen=True)
class Case:
    """One outcome: what is declared, where the deciding decision is, and what the command ends with."""

    name: str
    purpose: str
    status: int
    gate: Gate
    site: str = "us"


CASES = (
    Case("allowed", "deploy", 0, Gate.RELEASE),
    Case("held-at-offer", "wait-at-offer", 3, Gate.OFFER),
    Case("held-for-approvals", "two-persons", 3, Gate.RELEASE),
    Case("held-for-a-missing-fact", "who-owns-it", 3, Gate.RELEASE),
    Case("held-for-an-obligation", "copied-abroad", 3, Gate.OFFER),
    Case("held-at-receipt", "hold-me", 3, Gate.RECEIPT, site="eu"),
    Case("denied-at-release", "no-key", 4, Gate.RELEASE),
    Case("denied-at-receipt", "deny-me", 4, Gate.RECEIPT, site="eu"),
    Case("quarantined-at-receipt", "quarantine-me", 4, Gate.RECEIPT, site="eu"),
)


@pytest.fixture
async def world(cold_border: Border) -> World:
    for site in cold_border.world.sites:
        async with open_site(site.directory) as opened:
            change = Change(lanes=(parse_lane("us-eu=us:eu"),), people=PEOPLE)
            bundle = propose(opened.trust.current(), change, datetime.now(UTC))
            await opened.trust.import_bundle(sign_proposal(unsigned(bundle), ROOT_KEY).encode(), root_fingerprint=None)
    cold_border.us.set_policy(POLICIES["us"] + MORE_OF_US)
    await cold_border.start()
    return cold_border.world


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_the_words_of_each_outcome_are_those_of_the_golden_file_and_the_same_everywhere(
    world: World, tmp_path: Path, case: Case
) -> None:
    source = noise(tmp_path / "source", 3000)
    push = (
        "push",
        f"file:{source}",
        "eu:app:v1",
        "-d",
        "classification=public",
        "-d",
        f"purpose={case.purpose}",
    )
    status, out, err = await carnet(world.us, *push, "--wait", "delivered", "--timeout", "60s", "--progress", "none")
    view = await newest(world.us)
    decision, entry = await decided(getattr(world, case.site), TransferId(view.transfer), case.gate)
    [delivery] = view.deliveries

    shown = [one for one in delivery.reasons if one.outcome != "allow"]
    said = {(one.rule, one.text, one.remedy or "") for one in decision.reasons}
    for one in shown:
        if one.rule != "approvals":  # who may give them is said where it is shown; the decision signs roles and counts
            assert (one.rule, one.text, one.remedy) in said
        assert f"why: {one.text} (rule {one.rule}: {one.outcome})" in out
        assert one.remedy in out
    assert (status, decision.outcome) == (case.status, delivery.outcome or "allow")
    compare(case.name, plain(written(push, status, out, err, delivery.state, shown, decision, entry), source))


@pytest.mark.parametrize(
    ("name", "said", "words"),
    [
        (
            "refused-when-declared",
            ("classification=export-controlled", "purpose=deploy"),
            "controlled content stays",
        ),
        ("refused-without-a-permit", ("classification=secret", "purpose=deploy"), "no rule permits this at offer"),
    ],
)
async def test_what_is_refused_when_it_is_declared_says_the_same_on_the_command_line_and_in_the_answer(
    world: World, tmp_path: Path, name: str, said: tuple[str, ...], words: str
) -> None:
    source = noise(tmp_path / "source", 3000)
    flags = [piece for one in said for piece in ("-d", one)]
    push = ("push", f"file:{source}", "eu:app:v1", *flags)
    status, out, err = await carnet(world.us, *push, "--progress", "none")
    inspect = ("inspect", f"file:{source}", "eu:app:v1", *flags)
    status_of_inspect, answer, _ = await carnet(world.us, *inspect, "--json")
    advice = json.loads(answer)["advice"]

    assert status == status_of_inspect == 4
    assert words in err
    assert words in json.dumps(advice)
    reasons = [reason_line(ReasonView.model_validate(one)) for one in advice["reasons"]]
    text = [command_line(push), f"status {status}", out, err, "== API: advice", advice["outcome"], *reasons]
    compare(name, plain("\n".join(text), source))


async def test_a_pull_that_is_denied_says_the_same_on_the_command_line_and_in_what_was_signed(
    world: World, tmp_path: Path
) -> None:
    source = noise(tmp_path / "source", 3000)
    await carnet(world.us, "push", f"file:{source}", "eu:app:v1", "-d", "classification=public", "-d", "purpose=no-pull")
    transfer = (await newest(world.us)).transfer
    await world.until(transfer, lambda view: view.deliveries[0].state == "delivered")
    pull = ("pull", "app:v1", f"file:{tmp_path / 'out'}")
    status, out, err = await carnet(world.eu, *pull, "--progress", "none")
    decision, entry = await decided(world.eu, TransferId(transfer), Gate.RELEASE, consumer=True)

    assert status == 4
    for one in decision.reasons:
        if one.outcome == decision.outcome:
            assert one.text in err
            assert one.rule in err
    compare("denied-pull", plain(written(pull, status, out, err, "", (), decision, entry), tmp_path))


def written(
    command: tuple[str, ...],
    status: int,
    out: str,
    err: str,
    state: str,
    shown: list[ReasonView] | tuple[ReasonView, ...],
    decision: Decision,
    entry: LogEntry,
) -> str:
    """Return all that was said, place by place."""
    api = [f"== API: the delivery is {state}", *map(reason_line, shown)] if state else []
    signed = [
        f"== log: {entry.type.value}, {decision.outcome.value} at {decision.gate.value}, signed by {decision.site}",
        *(json.dumps({name: value for name, value in one.to_json().items() if name != "inputs"}) for one in decision.reasons),
        *(f"obligation {one.kind} {json.dumps(one.parameters)}" for one in decision.obligations),
    ]
    return "\n".join([command_line(command), f"status {status}", out, err, *api, *signed])


def reason_line(reason: ReasonView) -> str:
    said = reason.model_dump(mode="json")
    return json.dumps({name: said[name] for name in FIELDS if said[name]})


def command_line(command: tuple[str, ...]) -> str:
    return "$ carnet " + " ".join(command)


def plain(text: str, source: Path) -> str:
    """Return the text without what differs from run to run."""
    for pattern, word in (
        (re.escape(str(source)), "SOURCE"),
        (r"sha256:[0-9a-f]{64}", "DIGEST"),
        (r"\b[0-9a-f]{32}\b", "TRANSFER"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r"\b[\d.]+ s\b", "SECONDS"),
        (r"[\d.]+ (B|kB|MB)\b", "SIZE"),
        (r"(?m)^ +(recall pending|told at).*$", ""),
        (r"https://localhost:\d+", "URL"),
    ):
        text = re.sub(pattern, word, text)
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) + "\n"


def compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if WRITES:
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"the words of {name} are others; CARNET_GOLDEN=write writes {path.name} anew"


async def newest(site: LiveSite) -> TransferView:
    async with open_session(site.agent, connections=1) as session:
        [first, *_] = (await session.client.list()).transfers
        return await session.client.show(first.transfer)


async def decided(site: LiveSite, transfer: TransferId, gate: Gate, *, consumer: bool = False) -> tuple[Decision, LogEntry]:
    """Return the signed decision and its entry in the site's log, which commits to it."""
    party = str(site.settings.identity).replace(f"gateway/{site.name}", "agent/") if consumer else "eu"
    async with open_site(site.directory) as opened:

        def read(tx):
            names = tx.documents(transfer, documents.decision_name(gate, party if consumer else ""))
            [body] = [one for name, one in names.items() if consumer or name.endswith("/eu")]
            indices = tx.documents(transfer, documents.decision_index_name(gate, party if consumer else ""))
            [index] = [one for name, one in indices.items() if consumer or name.endswith("/eu")]
            return body, tx.log_entry(int(index))

        body, kept = await opened.catalog.read(read)
    decision = Decision.read_unverified(documents.read_envelope(body))
    entry = LogEntry.model_validate_json(kept.entry)
    opening = kept.openings["decision"]
    assert opening.value == decision.digest
    check_opening(entry, "decision", opening.salt, decision.digest)
    return decision, entry


def test_every_golden_file_belongs_to_a_case() -> None:
    names = {case.name for case in CASES} | {"refused-when-declared", "refused-without-a-permit", "denied-pull"}

    assert {path.stem for path in GOLDEN.iterdir()} == names
