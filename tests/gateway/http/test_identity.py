from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from carnet.errors import NotAuthenticated
from carnet.identifiers import SiteName, SpiffeId
from gateway.http.identity import Authenticator, parse_leaf
from gateway.pki import Authority, new_key
from tests.carnet.samples import DOMAIN, EU, US
from tests.gateway.http.world import agent_id, gateway_id

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
US_CA, EU_CA, OTHER_CA = (Authority.create(SiteName(name), NOW) for name in ("us", "eu", "us"))


def leaf(authority: Authority, identity: SpiffeId) -> bytes:
    return authority.issue_client(identity, new_key().public_key(), NOW).public_bytes(Encoding.DER)


def odd_leaf(*names: x509.GeneralName, purpose=ExtendedKeyUsageOID.CLIENT_AUTH, san=True) -> bytes:
    """Return a certificate such as our own CA never issues."""
    key = new_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(US_CA.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    if san:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(US_CA.key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def peers():
    return {EU: EU_CA.pem.decode()}


@pytest.fixture
def authenticator(peers):
    return Authenticator(site=US, trust_domain=DOMAIN, own_ca=US_CA.pem.decode(), peer_ca=peers.get)


def refusal(authenticator, der, now=NOW) -> str:
    with pytest.raises(NotAuthenticated) as caught:
        authenticator.identify(der, now)
    return f"{caught.value.code} {caught.value.problem}"


@pytest.mark.parametrize("identity", [agent_id(), SpiffeId.make(DOMAIN, US, "person", "ada")])
def test_an_own_identity_is_known(authenticator, identity):
    assert authenticator.identify(leaf(US_CA, identity), NOW) == identity


def test_a_peer_gateway_is_known(authenticator):
    assert authenticator.identify(leaf(EU_CA, gateway_id(EU)), NOW) == gateway_id(EU)


def test_nobody_is_told_to_present_a_certificate(authenticator):
    assert refusal(authenticator, None).startswith("E-NO-CERTIFICATE")


@pytest.mark.parametrize(
    ("authority", "identity", "words"),
    [
        (EU_CA, agent_id(US), "not issued by the CA of site us"),
        (US_CA, gateway_id(EU), "not issued by the CA of site eu"),
        (OTHER_CA, agent_id(US), "not issued by the CA of site us"),
        (EU_CA, agent_id(EU), "belongs to another site"),
        (EU_CA, SpiffeId.make(DOMAIN, EU, "gateway", "us"), "belongs to another site"),
        (US_CA, gateway_id(US), "this gateway itself"),
        (US_CA, SpiffeId.make("other.example", US, "agent", "build-1"), "not of trust domain"),
        (US_CA, gateway_id(SiteName("mars")), "not in the trust bundle"),
    ],
)
def test_a_certificate_that_its_site_did_not_vouch_for_is_refused(authenticator, authority, identity, words):
    found = refusal(authenticator, leaf(authority, identity))
    assert found.startswith("E-CERTIFICATE")
    assert words in found


def test_an_issuer_of_the_same_name_with_another_key_is_refused(authenticator):
    """The other CA of site us has the very same subject."""
    assert OTHER_CA.certificate.subject == US_CA.certificate.subject
    assert "not issued" in refusal(authenticator, leaf(OTHER_CA, agent_id()))


def test_validity_is_judged_at_every_request(authenticator):
    der = leaf(US_CA, agent_id())
    authenticator.identify(der, NOW)

    assert "not valid now" in refusal(authenticator, der, NOW + timedelta(days=2))
    assert "not valid now" in refusal(authenticator, der, NOW - timedelta(days=2))


def test_a_site_that_changes_its_ca_vouches_under_the_new_one_only(authenticator, peers):
    old, new_ca = leaf(EU_CA, gateway_id(EU)), Authority.create(EU, NOW)
    authenticator.identify(old, NOW)
    peers[EU] = new_ca.pem.decode()

    assert authenticator.identify(leaf(new_ca, gateway_id(EU)), NOW) == gateway_id(EU)
    assert "not issued" in refusal(authenticator, old)


URI = x509.UniformResourceIdentifier


@pytest.mark.parametrize(
    "der",
    [
        odd_leaf(URI(agent_id()), URI(agent_id(name="build-2"))),
        odd_leaf(x509.DNSName("localhost")),
        odd_leaf(URI("https://example.com")),
        odd_leaf(URI(agent_id() + "/more")),
        odd_leaf(URI(agent_id()), purpose=ExtendedKeyUsageOID.SERVER_AUTH),
        odd_leaf(san=False),
        b"",
        b"0\x82",
        bytes(20_000),
    ],
    ids=["two-names", "no-uri", "no-spiffe", "long-path", "server-only", "no-san", "empty", "cut", "large"],
)
def test_a_certificate_that_says_something_else_is_refused(der):
    with pytest.raises(NotAuthenticated, match="E-CERTIFICATE"):
        parse_leaf(der)
