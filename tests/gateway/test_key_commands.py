"""`person revoke`, `key revoke`, `key rotate`, `trust revoked` as an operator uses them."""

import json

import pytest

from tests.gateway.test_commands import assert_failed, gateway, init

__all__ = ["gateway"]


@pytest.fixture
def site(gateway):
    """A site whose bundle names a person."""
    init(gateway, "us")
    assert gateway("trust", "new-root", "root.key")[0] == 0
    assert gateway("trust", "new-root", "ada.key")[0] == 0
    gateway(
        "trust", "propose", "bundle.json", "--root", "root.key.pub", "--site", "us/site-card.json",
        "--person", "ada=ada.key.pub:security",
    )  # fmt: skip
    assert gateway("trust", "sign", "bundle.json", "--key", "root.key")[0] == 0
    assert gateway("trust", "import", "us", "bundle.json")[0] == 0
    return gateway


def test_a_revoked_person_is_listed_with_the_keys_that_the_bundle_names(site):
    assert site("trust", "revoked", "us")[1] == "no revocation set is known yet\n"

    status, out, _ = site("person", "revoke", "us", "ada", "--reason", "left")

    assert (status, out) == (0, "person ada is revoked (left); revocation set 1\n")
    listed = site("trust", "revoked", "us")[1].splitlines()
    assert listed[0].startswith("set 1 of us, fresh until ")
    assert listed[1].startswith("  spiffe://example.com/site/us/person/ada  ")
    assert listed[2].startswith("  key ")
    assert all(line.endswith("left") for line in listed[1:])
    found = json.loads(site("trust", "revoked", "us", "--json")[1])
    assert len(found["sets"][0]["signing_keys"]) == 1


def test_the_newest_kem_key_is_revoked_after_the_next_one_was_made(site):
    status, out, _ = site("key", "revoke", "us", "kem-1", "--reason", "key-stolen")

    assert (status, out) == (0, "kem-1 is revoked (key-stolen); revocation set 1\n")
    assert "kem-1 of us" in site("trust", "revoked", "us")[1]
    assert site("key", "rotate", "us", "kem")[1].startswith("KEM key 3 is made, valid until ")


def test_mistakes_are_told_in_one_line(site):
    assert_failed(site("person", "revoke", "us", "nobody", "--reason", "left"), 2, "E-USAGE")
    assert_failed(site("person", "revoke", "us", "ada", "--reason", "Two Words"), 2, "E-USAGE")
    assert_failed(site("key", "revoke", "us", "nobody", "--reason", "left"), 2, "E-USAGE")
    assert_failed(site("key", "revoke", "us", "kem-7", "--reason", "left"), 8, "E-KEY-RELEASE")
    assert_failed(site("key", "revoke", "elsewhere", "kem-1", "--reason", "left"), 2, "E-CONFIG")


def test_a_site_without_a_bundle_has_no_people_to_revoke(gateway):
    init(gateway, "us")

    assert_failed(gateway("person", "revoke", "us", "ada", "--reason", "left"), 6, "E-TRUST")
