"""What the site's CA issues, and what it takes from a request."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import CallerError, PeerError
from carnet.identifiers import SiteName, SpiffeId
from gateway.pki import Authority, encode_chain, encode_key, make_request, new_key, parse_key, read_request, renewal_due

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GATEWAY = SpiffeId("spiffe://example.com/site/us/gateway/us")
AGENT = SpiffeId("spiffe://example.com/site/us/agent/ci")


@pytest.fixture(scope="module")
def authority():
    return Authority.create(SiteName("us"), NOW)


def names_of(certificate, kind):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(kind)


def request_with(key, *names, algorithm=None):
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway us")])
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    return builder.sign(key, algorithm or hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def test_an_agents_certificate_has_exactly_one_name_and_it_is_the_identity(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)

    assert names_of(leaf, x509.UniformResourceIdentifier) == [AGENT]
    assert names_of(leaf, x509.DNSName) == []


def test_an_agents_certificate_is_for_clients_only_and_for_a_day(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)

    purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.not_valid_after_utc == NOW + timedelta(hours=24)


def test_a_certificate_starts_five_minutes_early(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)

    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)


def test_a_gateways_certificate_verifies_for_its_hosts_as_a_server(authority):
    leaf = authority.issue_gateway(GATEWAY, new_key().public_key(), ["localhost", "127.0.0.1", "::1", "localhost"], NOW)
    verifier = PolicyBuilder().store(Store([authority.certificate])).time(NOW).build_server_verifier(x509.DNSName("localhost"))

    chain = verifier.verify(leaf, [])

    assert chain[-1] == authority.certificate
    assert names_of(leaf, x509.UniformResourceIdentifier) == [GATEWAY]
    assert [str(address) for address in names_of(leaf, x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_clients_certificate_verifies_as_a_client(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)

    found = PolicyBuilder().store(Store([authority.certificate])).time(NOW).build_client_verifier().verify(leaf, [])

    assert found.chain[-1] == authority.certificate


def test_the_authority_can_issue_end_certificates_only(authority):
    basic = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)

    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)


def test_no_certificate_outlives_its_authority(authority):
    late = authority.certificate.not_valid_after_utc - timedelta(hours=1)

    leaf = authority.issue_gateway(GATEWAY, new_key().public_key(), ["localhost"], late)

    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_names_in_a_request_are_not_read():
    key = new_key()
    greedy = request_with(key, x509.UniformResourceIdentifier(GATEWAY), x509.DNSName("gateway.example.com"))

    assert read_request(greedy) == key.public_key()


def test_a_request_for_a_p384_key_is_taken():
    key = ec.generate_private_key(ec.SECP384R1())

    assert read_request(request_with(key)) == key.public_key()


def test_a_request_for_another_kind_of_key_is_refused():
    edwards = ed25519.Ed25519PrivateKey.generate()
    text = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(edwards, None).public_bytes(Encoding.PEM)

    with pytest.raises(PeerError, match="P-256 or P-384"):
        read_request(text.decode())


def test_a_request_that_its_key_did_not_sign_is_refused():
    der = bytearray(x509.load_pem_x509_csr(make_request(new_key())).public_bytes(Encoding.DER))
    other = x509.load_pem_x509_csr(make_request(new_key())).public_bytes(Encoding.DER)
    forged = der.replace(_spki(bytes(der)), _spki(other))

    with pytest.raises(PeerError):
        read_request(_pem(forged))


def test_a_request_that_is_too_long_is_refused_unread():
    with pytest.raises(PeerError, match="at most 8000"):
        read_request("x" * 8_001)


@given(st.text(max_size=200))
def test_any_text_is_a_request_or_refused_cleanly(text):
    with pytest.raises(PeerError) as caught:
        read_request(text)

    assert caught.value.code == "E-REQUEST"


def test_an_authority_reads_back_and_shows_no_key(authority):
    again = Authority.parse(authority.pem, encode_key(authority.key))

    assert again.certificate == authority.certificate
    assert "key" not in repr(again).replace("public_key", "")


def test_an_authority_with_another_key_is_refused(authority):
    with pytest.raises(CallerError, match="not the key of its certificate"):
        Authority.parse(authority.pem, encode_key(new_key()))


def test_what_is_no_key_is_refused_without_showing_it():
    with pytest.raises(CallerError) as caught:
        parse_key(b"hunter2")

    assert "hunter2" not in str(caught.value)


def test_a_chain_is_leaf_first(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)

    assert x509.load_pem_x509_certificates(encode_chain(leaf, authority.certificate)) == [leaf, authority.certificate]


def test_renewal_is_due_at_two_thirds_of_a_life(authority):
    leaf = authority.issue_client(AGENT, new_key().public_key(), NOW)
    due = leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) * 2 / 3

    assert not renewal_due(leaf, due - timedelta(seconds=1))
    assert renewal_due(leaf, due)


def _spki(der):
    key = x509.load_der_x509_csr(der).public_key()
    from cryptography.hazmat.primitives.serialization import PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _pem(der):
    import base64

    return f"-----BEGIN CERTIFICATE REQUEST-----\n{base64.encodebytes(bytes(der)).decode()}-----END CERTIFICATE REQUEST-----\n"
