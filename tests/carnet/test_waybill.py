import pytest
from pydantic import ValidationError

from carnet.identifiers import SiteName, SpiffeId
from carnet.waybill import Declarations, Origin, Party, Provenance, Waybill, declared_facts
from tests.carnet.samples import AGENT, AT, EU, US, digest, signing_key, waybill


def test_facts_have_flat_names_and_plain_values():
    facts = declared_facts(waybill(), waybill().origin)

    assert facts == {
        "artifact.kind": "image",
        "artifact.repository": "team/app",
        "artifact.tag": "v1",
        "artifact.media_type": "application/vnd.oci.image.manifest.v1+json",
        "artifact.size": 1_000_000,
        "artifact.classification": "internal",
        "data.categories": ["telemetry"],
        "export.number": "5D992",
        "purpose": "release",
        "parties": [{"role": "consignee", "name": "ACME GmbH", "country": "DE"}],
        "origin.site": "us",
        "origin.agent": "spiffe://acme.example/site/us/agent/build-1",
        "origin.initiator": "ada@acme.example",
        "lane": "us-eu",
        "label.team": "platform",
    }
    assert all(type(value) in (str, int, list) for value in facts.values())


def test_what_is_not_declared_is_no_fact():
    facts = declared_facts(waybill(declarations=Declarations()), Origin(site=US, agent=AGENT))

    assert "export.number" not in facts
    assert "data.categories" not in facts
    assert "parties" not in facts
    assert "origin.initiator" not in facts


def test_a_label_cannot_pose_as_another_fact():
    """Labels keep their prefix, and a label's key cannot leave it."""
    facts = declared_facts(waybill(declarations=Declarations(labels={"purpose": "x", "export.number": "y"})), waybill().origin)

    assert "purpose" not in facts
    assert "export.number" not in facts
    assert facts["label.export.number"] == "y"


@pytest.mark.parametrize(
    "changes",
    [
        {"origin": Origin(site=EU, agent=AGENT)},
        {"not_after": AT},
        {"previous": digest("before"), "turn": 1},
        {"destinations": ()},
        {"destinations": (EU, EU)},
        {"destinations": tuple(SiteName(f"s{number}") for number in range(17))},
        {"turn": 0},
        {"size": -1},
        {"size": 2**53},
        {"trust_version": 0},
        {"media_type": "no slash"},
        {"kind": "virus"},
        {"at": "2026-11-24 12:00:00Z"},
    ],
)
def test_a_waybill_that_contradicts_itself_cannot_be_made(changes):
    with pytest.raises(ValidationError):
        waybill(**changes)


@pytest.mark.parametrize(
    "declarations",
    [
        {"purpose": "x" * 1_001},
        {"purpose": "line\nbreak"},
        {"classification": ""},
        {"data_categories": ("a", "a")},
        {"data_categories": ("Not A Word",)},
        {"labels": {"No": "x"}},
        {"labels": {f"k{number}": "v" for number in range(65)}},
        {"parties": ({"role": "consignee", "name": "x", "country": "Germany"},)},
    ],
)
def test_declarations_are_bounded(declarations):
    with pytest.raises(ValidationError):
        Declarations(**declarations)


def test_optional_parts_travel():
    whole = waybill(previous=digest("before"), turn=7, provenance=Provenance(builder="ci", revision="abc"))
    alone = Party(role="end-user", name="x")

    assert Waybill.open(whole.sign(signing_key(1)), [signing_key(1).public]) == whole
    assert alone.to_json() == {"role": "end-user", "name": "x"}
    assert SpiffeId(whole.origin.agent).site == US
