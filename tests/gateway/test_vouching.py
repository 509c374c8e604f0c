"""`licence sign` and `attest sign` as people use them, without a site: what could count nowhere is not signed."""

import json

import pytest

from carnet.attestation import Attestation
from carnet.flow.commandline import run
from carnet.keys import SigningKey, encode_private_key
from carnet.policy.source import parse_as
from gateway.cli import build_app

LICENCE = """id: TAA-7
edition: 1
kind: TAA
authority: DDTC
destinations: [AU, GB, US-VA]
valid_from: 2026-12-01
valid_until: 2027-11-30
shares: [{site: us}]
"""
ATTESTATION = """id: eu-users
edition: 1
about: {site: eu}
reference: DDTC
facts: {recipient.groups: [trusted-user], scan.hours: 2, data.subjects_countries: [FR]}
at: 2026-12-01T00:00:00Z
not_after: 2027-05-31T00:00:00Z
"""
FACTS = "{recipient.groups: [trusted-user], scan.hours: 2, data.subjects_countries: [FR]}"
KINDS = pytest.mark.parametrize(("kind", "text"), [("licence", LICENCE), ("attest", ATTESTATION)], ids=["licence", "attestation"])


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys):
    """Run a command in a directory that holds a person's key; returns status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    key = tmp_path / "carol.key"
    key.write_text(encode_private_key(SigningKey(bytes([7]) * 32)))
    key.chmod(0o600)

    def call(*arguments):
        status = run(build_app(), "carnet-gateway", [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def sign(desk, tmp_path):
    """Sign a paper that somebody wrote into `p.yaml`."""

    def call(kind, text):
        (tmp_path / "p.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return desk(kind, "sign", "p.yaml", "--key", "carol.key")

    return call


@KINDS
def test_what_is_in_order_is_signed_and_may_be_signed_again(desk, sign, tmp_path, kind, text):
    status, out, err = sign(kind, text)
    (tmp_path / "signed.json").write_text(out)

    assert (status, err) == (0, "")
    assert desk(kind, "sign", "signed.json", "--key", "carol.key")[:2] == (0, out)


@KINDS
def test_text_in_another_encoding_is_not_signed_as_something_else(sign, kind, text):
    status, out, err = sign(kind, text.replace("DDTC", "Zürich").encode("latin-1"))

    assert (status, out) == (2, "")
    assert "p.yaml: line 4: not UTF-8 text [E-POLICY]\nhint: save p.yaml as UTF-8" in err


def test_a_destination_that_is_no_country_is_not_signed(sign):
    status, out, err = sign("licence", LICENCE.replace("GB", "UK"))

    assert (status, out) == (2, "")
    assert "p.yaml: line 5: no file of groups knows the code UK" in err
    assert "hint: correct p.yaml\n" in err


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ("{recipient.endd_use: deploy}", "no fact is called recipient.endd_use; is recipient.end_use meant? [E-POLICY]"),
        ("{recipient.end_use: deploy, weather: fine}", "no fact is called weather [E-POLICY]"),
        ("{recipient.groups: one}", "the fact recipient.groups is a list of texts"),
        ("{scan.hours: two}", "the fact scan.hours is a"),
        ("{lane.mode: sealed}", "lane.mode is no fact that people can vouch for: it comes from the site itself"),
        ("{label.team: a}", "label.team is no fact that people can vouch for: it comes from the sender, with the push"),
        ("{data.subjects_countries: [FR, UK]}", "data.subjects_countries: no file of groups knows the code UK"),
    ],
)
def test_a_fact_that_can_count_nowhere_is_not_signed(sign, facts, said):
    status, out, err = sign("attest", ATTESTATION.replace(FACTS, facts))

    assert (status, out) == (2, "")
    assert f"p.yaml: line 5: {said}" in err


def test_what_a_first_person_signed_elsewhere_is_looked_at_before_a_second_one_signs_it(desk, tmp_path):
    paper = parse_as(Attestation, ATTESTATION.replace(FACTS, "{weather: fine}"), "p.yaml").sign(SigningKey(bytes([9]) * 32))
    (tmp_path / "signed.json").write_bytes(paper.encode())

    status, out, err = desk("attest", "sign", "signed.json", "--key", "carol.key")

    assert (status, out) == (2, "")
    assert "signed.json: no fact is called weather [E-POLICY]\nhint: correct what signed.json was made from" in err


@KINDS
def test_a_mistake_of_form_names_the_file_at_hand_and_where_the_form_is_shown(sign, kind, text):
    status, _, err = sign(kind, text.replace("edition: 1", "edition: one"))

    assert status == 2
    assert "p.yaml: line 2: " in err
    section = "Licences" if kind == "licence" else "Attestations"
    assert f'hint: correct p.yaml; docs/policy.md section "{section}" shows one' in err


@KINDS
def test_what_is_not_signed_yet_is_told_so_when_it_is_added(desk, tmp_path, kind, text):
    (tmp_path / "p.yaml").write_text(text)

    status, out, err = desk(kind, "add", "site", "p.yaml", "--json")

    assert (status, json.loads(out)["error"]) == (2, "E-USAGE")
    assert "p.yaml is not signed yet" in err
    assert f"carnet-gateway {kind} sign p.yaml --key KEY" in err


def test_a_paper_of_the_other_kind_is_told_by_the_file_and_what_prints_the_right_one(desk, sign, tmp_path):
    (tmp_path / "signed.json").write_text(sign("licence", LICENCE)[1])

    status, _, err = desk("attest", "add", "site", "signed.json")

    assert status == 1
    assert "signed.json: payload type 'application/vnd.carnet.licence.v1+json', expected" in err
    assert "hint: name what `carnet-gateway attest sign` printed" in err
