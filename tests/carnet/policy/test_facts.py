import pytest

from carnet.errors import CallerError
from carnet.identifiers import SiteName, SpiffeId
from carnet.oci import ArtifactKind
from carnet.policy.facts import FACTS, VALUES, Assurance, FactType, fact_type, make_fact
from carnet.trust import LaneMode


def test_assurances_are_ordered_from_declared_to_verified():
    assert Assurance.DECLARED < Assurance.DERIVED < Assurance.ATTESTED < Assurance.VERIFIED
    assert Assurance.ATTESTED.word == "attested"


def test_no_fact_is_about_a_persons_nationality():
    banned = ("nationality", "citizen", "birth", "ethnic")

    assert [name for name in FACTS if any(word in name for word in banned)] == []


def test_labels_are_facts_of_any_name():
    assert fact_type("label.team") is FactType.TEXT
    assert fact_type("label.") is None
    assert fact_type("labels.team") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("artifact.size", 5), ("artifact.kind", "image"), ("data.categories", ["health"]), ("lane.crosses_border", True)],
)
def test_a_fact_keeps_its_value_assurance_and_source(name, value):
    fact = make_fact(name, value, Assurance.DERIVED, "content")

    assert fact.value == (tuple(value) if isinstance(value, list) else value)
    assert (fact.assurance, fact.source) == (Assurance.DERIVED, "content")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("artifact.size", True),
        ("artifact.size", "5"),
        ("artifact.kind", 5),
        ("artifact.kind", ["image"]),
        ("data.categories", "health"),
        ("data.categories", [1]),
        ("lane.crosses_border", 1),
        ("no.such.fact", "x"),
        ("artifact.kind", {"a": 1}),
        ("artifact.kind", None),
    ],
)
def test_a_value_of_another_type_and_an_unknown_name_are_refused(name, value):
    with pytest.raises(CallerError, match="E-POLICY"):
        make_fact(name, value, Assurance.DECLARED, "waybill")


def test_the_values_that_rules_may_ask_for_are_all_that_there_are():
    assert VALUES["artifact.kind"] == tuple(ArtifactKind)
    assert VALUES["lane.mode"] == tuple(LaneMode)
    for kind in VALUES["recipient.kind"]:
        assert SpiffeId.make("example.org", SiteName("us"), kind, "x").kind == kind
