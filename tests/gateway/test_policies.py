from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from carnet.decision import Gate, Outcome
from carnet.errors import CallerError, NotFound
from carnet.identifiers import Jurisdiction, LaneName, Repository, SiteName, SpiffeId, Tag
from carnet.keys import SigningKey
from carnet.oci import ArtifactKind
from carnet.policy import check_policy
from carnet.policy.cases import run_cases
from carnet.policy.explanation import lines
from carnet.policy.facts import Assurance, fact_type
from carnet.timestamps import format_time
from carnet.trust import Lane, LaneMode, Roots, Site, TrustBundle, home_lane
from carnet.waybill import Declarations, Origin, Party, declared_facts
from gateway.geography import shipped_groups
from gateway.packs import read_tested
from gateway.policies import CASES_SUFFIX, PolicyBook, decide, dev_policy, gather_facts

EXAMPLES = Path(__file__).parents[2] / "docs/examples/policies"
EXAMPLE_POLICIES = sorted(path for path in EXAMPLES.glob("*.yaml") if not path.name.endswith(CASES_SUFFIX))
NOW = datetime(2026, 11, 24, tzinfo=UTC)
US, EU = SiteName("us"), SiteName("eu")
LANE = Lane(name=LaneName("us-eu"), origin=US, destinations=(EU,), mode=LaneMode.INSPECTED, suites=(1,))
AGENT = SpiffeId.make("example", US, "agent", "builder")
EU_GATEWAY = SpiffeId.make("example", EU, "gateway", "eu")
CONSUMER = SpiffeId.make("example", EU, "agent", "cluster")


def site(name: SiteName, jurisdiction: str, seed: int) -> Site:
    return Site(
        name=name,
        jurisdiction=Jurisdiction(jurisdiction),
        operator=f"{name.upper()} Corp",
        urls=(f"https://{name}.example",),
        tls_ca="-----BEGIN CERTIFICATE-----\n",
        signing_key=SigningKey(bytes([seed]) * 32).public,
    )


BUNDLE = TrustBundle(
    version=7,
    issued=format_time(NOW),
    expires=format_time(NOW + timedelta(days=30)),
    trust_domain="example",
    roots=Roots(keys=(SigningKey(bytes([9]) * 32).public,), threshold=1),
    sites=(site(US, "US-VA", 1), site(EU, "DE", 2)),
    lanes=(LANE,),
)


class Declared:
    """A declaration with everything in it."""

    repository = Repository("team/app")
    tag = Tag("v1")
    kind = ArtifactKind.IMAGE
    media_type = "application/vnd.oci.image.manifest.v1+json"
    size = 1_000
    lane = LANE.name

    def __init__(self, declarations: Declarations) -> None:
        self.declarations = declarations


FULL = Declarations(
    classification="public",
    data_categories=("none",),
    export_control_number="EAR99",
    licence="NLR",
    legal_basis="none",
    purpose="deploy",
    parties=(
        Party(role="consignee", name="EU Corp", country=Jurisdiction("DE")),
        Party(role="carrier", name="Relay", country=None),
    ),
    labels={"ticket": "T-1"},
)


def facts(declarations=FULL, *, lane=LANE, destination=EU, recipient=EU_GATEWAY):
    declared = declared_facts(Declared(declarations), Origin(site=US, agent=AGENT, initiator="job 5"))
    return gather_facts(
        declared, source="waybill", bundle=BUNDLE, lane=lane, destination=destination, recipient=recipient, inspected=True
    )


def book(directory: Path, *texts: str) -> PolicyBook:
    for number, text in enumerate(texts):
        (directory / f"{number}.yaml").write_text(text)
    return PolicyBook(directory)


def test_every_fact_that_is_gathered_is_in_the_table_of_facts():
    assert [name for name in facts() if fact_type(name) is None] == []


def test_declared_facts_are_declared_and_those_of_the_bundle_are_derived():
    found = facts()

    assert (found["export.number"].assurance, found["export.number"].source) == (Assurance.DECLARED, "waybill")
    assert (found["origin.agent"].assurance, found["origin.agent"].value) == (Assurance.VERIFIED, AGENT)
    assert (found["destination.jurisdiction"].value, found["destination.jurisdiction"].source) == ("DE", "trust bundle 7")
    assert found["lane.crosses_border"].value is True
    assert found["recipient.kind"].value == "gateway"


def test_a_list_of_countries_with_a_gap_is_no_fact():
    found = facts()

    assert found["parties.names"].value == ("EU Corp", "Relay")
    assert "parties.countries" not in found


def test_a_state_and_its_country_are_one_side_of_a_border():
    assert facts(lane=home_lane(US), destination=US)["lane.crosses_border"].value is False


def test_a_site_that_the_bundle_does_not_name_is_unknown():
    with pytest.raises(NotFound, match="E-SITE-UNKNOWN"):
        facts(destination=SiteName("elsewhere"))


def test_the_dev_policy_allows_within_the_site_and_nothing_else(tmp_path):
    policy = book(tmp_path, dev_policy())
    home = facts(lane=home_lane(US), destination=US)
    home["lane"] = home["lane"].__class__("home", Assurance.DECLARED, "waybill")

    assert {decide(policy.policy, gate, home).outcome for gate in (Gate.OFFER, Gate.RELEASE, Gate.RECEIPT)} == {Outcome.ALLOW}
    assert decide(policy.policy, Gate.OFFER, facts()).outcome is Outcome.DENY


@pytest.mark.parametrize("path", EXAMPLE_POLICIES, ids=lambda path: path.name)
def test_the_examples_check_clean(path):
    assert [str(finding) for finding in check_policy(path.read_text(), shipped_groups())] == []


@pytest.mark.parametrize("path", EXAMPLE_POLICIES, ids=lambda path: path.name)
def test_an_example_passes_its_cases_and_each_rule_would_be_missed(path):
    tested = read_tested(str(path))

    assert run_cases(tested.policy, tested.questions).problems == ()


def test_every_file_of_cases_among_the_examples_is_of_an_example():
    beside = {path.with_name(path.name.removesuffix(".yaml") + CASES_SUFFIX) for path in EXAMPLE_POLICIES}

    assert set(EXAMPLES.glob(f"*{CASES_SUFFIX}")) == beside


@pytest.mark.parametrize(
    ("changes", "gate", "expected"),
    [
        ({}, Gate.OFFER, "allow"),
        ({}, Gate.RELEASE, "allow"),
        ({}, Gate.RECEIPT, "allow"),
        ({"classification": "cui"}, Gate.OFFER, "deny"),
        ({"classification": None}, Gate.OFFER, "hold"),
        ({"export_control_number": "5D002.c.1"}, Gate.OFFER, "hold"),
        ({"export_control_number": "5D002.c.1", "licence": "ENC"}, Gate.OFFER, "hold"),
        ({"export_control_number": "3A001"}, Gate.OFFER, "deny"),
        ({"data_categories": ("none", "health")}, Gate.OFFER, "deny"),
    ],
)
def test_the_example_between_allies_decides_as_it_says(tmp_path, changes, gate, expected):
    policy = book(tmp_path, (EXAMPLES / "allies.yaml").read_text())

    decision = decide(policy.policy, gate, facts(FULL.model_copy(update=changes)))

    assert decision.outcome.value == expected, "\n".join(lines(decision))


def test_a_consumer_of_the_destination_and_nobody_else_may_pull_under_the_example(tmp_path):
    policy = book(tmp_path, (EXAMPLES / "allies.yaml").read_text())

    assert decide(policy.policy, Gate.RELEASE, facts(recipient=CONSUMER)).outcome is Outcome.ALLOW
    assert decide(policy.policy, Gate.RELEASE, facts(recipient=AGENT)).outcome is Outcome.DENY


def test_all_files_of_the_directory_are_one_policy(tmp_path):
    denial = dev_policy().replace("id: dev", "id: more").replace("within-the-site", "never").replace("lane: home", "lane: us-eu")
    policy = book(tmp_path, dev_policy(), denial)

    assert decide(policy.policy, Gate.OFFER, facts()).outcome is Outcome.ALLOW


@pytest.mark.parametrize("texts", [(), ("rules: []",), ("\u0000",), (dev_policy(), dev_policy())])
def test_a_site_does_not_start_without_a_sound_policy(tmp_path, texts):
    with pytest.raises(CallerError, match="E-POLICY"):
        book(tmp_path, *texts)


def test_a_file_that_is_not_text_is_refused_by_name(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")

    with pytest.raises(CallerError, match=r"bad\.yaml: line 1: not UTF-8"):
        PolicyBook(tmp_path)


def test_a_reload_replaces_the_policy_and_says_whether_it_changed(tmp_path):
    policy = book(tmp_path, dev_policy())
    before = policy.digest

    assert policy.reload() is False
    (tmp_path / "0.yaml").write_text(dev_policy().replace("lane: home", "lane: us-eu"))
    assert policy.reload() is True
    assert policy.digest != before
    assert decide(policy.policy, Gate.OFFER, facts()).outcome is Outcome.ALLOW


def test_a_reload_of_a_bad_file_keeps_the_policy_before(tmp_path):
    policy = book(tmp_path, dev_policy())
    before = policy.digest
    (tmp_path / "1.yaml").write_text("apiVersion: carnet/policy/v1\nrulez: []")

    with pytest.raises(CallerError, match=r"1\.yaml: line"):
        policy.reload()
    assert policy.digest == before


@pytest.mark.parametrize(
    ("repository", "labels", "gate", "expected"),
    [
        ("vendor/runtime/base", {"ticket": "T-1"}, Gate.RECEIPT, "allow"),
        ("vendor/runtime/base", {}, Gate.RECEIPT, "quarantine"),
        ("other/app", {"ticket": "T-1"}, Gate.RECEIPT, "deny"),
        ("vendor/runtime/base", {"ticket": "T-1"}, Gate.OFFER, "deny"),
    ],
)
def test_the_example_that_only_receives_decides_as_it_says(tmp_path, repository, labels, gate, expected):
    text = (EXAMPLES / "incoming-only.yaml").read_text().replace("Vendor Inc.", "US Corp")
    known = facts(FULL.model_copy(update={"labels": labels}))
    known["artifact.repository"] = known["artifact.repository"].__class__(repository, Assurance.DECLARED, "waybill")

    assert decide(book(tmp_path, text).policy, gate, known).outcome.value == expected


def test_a_policy_that_is_refused_when_it_is_read_again_leaves_the_one_before_in_force(tmp_path):
    (tmp_path / "p.yaml").write_text(dev_policy())
    book = PolicyBook(tmp_path)
    before = book.digest
    (tmp_path / "p.yaml").write_text(dev_policy().replace("version: 1", "version: 2"))

    def refuse(policy, signed):
        assert (policy.digest != before, signed) == (True, None)
        raise CallerError("E-POLICY", "nobody signed it")

    with pytest.raises(CallerError, match="nobody signed it"):
        book.reload(refuse)
    assert book.digest == before
    assert book.reload()
    assert book.digest != before


def test_signatures_that_are_no_envelope_stop_the_policy_from_being_read(tmp_path):
    (tmp_path / "p.yaml").write_text(dev_policy())
    (tmp_path / "policy.dsse").write_text("{}")

    with pytest.raises(CallerError, match="an envelope has payload"):
        PolicyBook(tmp_path)
