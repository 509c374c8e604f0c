"""The attestation: about one thing, for a time, and never about what somebody is."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from carnet.attestation import Attestation
from carnet.errors import IntegrityError
from carnet.policy.facts import AGES, FACTS, is_attestable
from carnet.signers import signers
from tests.carnet.samples import bundle
from tests.crossing.officers import KEYS, PEOPLE

NATIONALITY = re.compile(r"nationalit|citizen|birth|passport|ethnic|resident")
NOW = datetime(2026, 12, 1, tzinfo=UTC)


def attestation(**changes) -> Attestation:
    fields = {
        "id": "au-users",
        "edition": 1,
        "about": {"site": "au"},
        "facts": {"recipient.groups": ["tca-17-authorised"]},
        "at": "2026-11-28T00:00:00Z",
        "not_after": "2027-01-31T00:00:00Z",
    }
    return Attestation.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"about": {}}, "about one of"),
        ({"about": {"site": "au", "lane": "us-au"}}, "about one of"),
        ({"not_after": "2026-11-28T00:00:00Z"}, "not after at"),
        ({"not_after": "2027-11-30T00:00:00Z"}, "at most 366"),
        ({"facts": {}}, "at least 1"),
    ],
)
def test_what_is_about_two_things_or_has_no_end_is_none(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        attestation(**changes)


def test_it_holds_from_its_first_second_until_before_its_last():
    paper = attestation()

    assert [paper.holds_at(paper_time) for paper_time in (NOW, datetime(2027, 1, 31, tzinfo=UTC), NOW - timedelta(days=9))] == [
        True, False, False,
    ]  # fmt: skip


def test_an_age_grows_and_nothing_else_does():
    paper = attestation(facts={"provenance.days": 2, "scan.critical_fixable": 2})

    assert paper.value("provenance.days", NOW, AGES["provenance.days"]) == 5
    assert paper.value("scan.critical_fixable", NOW, AGES.get("scan.critical_fixable")) == 2


def test_no_fact_that_a_rule_may_read_or_a_person_may_attest_is_shaped_like_a_nationality():
    assert [name for name in FACTS if NATIONALITY.search(name)] == []
    assert [name for name in Attestation.model_fields if NATIONALITY.search(name)] == []


def test_what_a_site_finds_out_itself_nobody_can_attest():
    own = ["origin.jurisdiction", "destination.site", "lane.mode", "path.countries", "content.inspected", "recipient.identity"]

    assert [name for name in own if is_attestable(name)] == []


def test_it_is_signed_by_whom_the_bundle_names_by_keys_that_are_not_revoked():
    known = bundle(people=PEOPLE, policy_owners=())
    paper = attestation()
    signed = paper.sign(KEYS["bob"]).with_signature(KEYS["dora"]).with_signature(KEYS["spare"])

    assert [one.name for one in signers(signed, paper.payload_type, known)] == ["bob", "dora"]
    assert [one.name for one in signers(signed, paper.payload_type, known, revoked={KEYS["bob"].public.keyid})] == ["dora"]
    with pytest.raises(IntegrityError) as nobody:
        signers(paper.sign(KEYS["bob"]), paper.payload_type, bundle(people=PEOPLE[2:], policy_owners=()))
    assert nobody.value.code == "E-SIGNATURE"
