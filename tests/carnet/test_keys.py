import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import TransferId
from carnet.keys import (
    _SMALL_ORDER,
    WRAP_OVERHEAD_BYTES,
    KemPrivateKey,
    KemPublicKey,
    SigningKey,
    VerifyingKey,
    encode_private_key,
    encode_public_key,
    key_commitment,
    parse_private_key,
    parse_public_key,
    unwrap,
    wrap,
)
from tests.carnet.samples import kem_key, signing_key
from tests.vectors.blocks import expand, read_blocks

# A second HPKE, written from RFC 9180 section 4 and 5, to check that ours is the standard's and not only self-consistent.


def labeled_extract(suite, salt, label, secret):
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + secret, hashlib.sha256)


def labeled_expand(suite, key, label, info, length):
    block, out, counter = b"", b"", 1
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    while len(out) < length:
        block = hmac.digest(key, block + labeled + bytes([counter]), hashlib.sha256)
        out, counter = out + block, counter + 1
    return out[:length]


def key_schedule(kem_id, aead_id, key_bytes, secret, info):
    suite = b"HPKE" + kem_id.to_bytes(2, "big") + (1).to_bytes(2, "big") + aead_id.to_bytes(2, "big")
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    root = labeled_extract(suite, secret, b"secret", b"")
    return labeled_expand(suite, root, b"key", context, key_bytes), labeled_expand(suite, root, b"base_nonce", context, 12)


def xwing_decapsulate(seed, ciphertext):
    expanded = hashlib.shake_256(seed).digest(96)
    curve = x25519.X25519PrivateKey.from_private_bytes(expanded[64:])
    lattice_secret = mlkem.MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).decapsulate(ciphertext[:1088])
    curve_secret = curve.exchange(x25519.X25519PublicKey.from_public_bytes(ciphertext[1088:]))
    material = lattice_secret + curve_secret + ciphertext[1088:] + curve.public_key().public_bytes_raw()
    return hashlib.sha3_256(material + rb"\.//^" + b"\x5c").digest()


@pytest.mark.parametrize("vector", read_blocks("ed25519.txt"), ids=lambda vector: vector["name"])
def test_signatures_are_those_of_rfc_8032(vector):
    key, message, signature = (
        SigningKey(bytes.fromhex(vector["seed"])),
        expand(vector["message"]),
        bytes.fromhex(vector["signature"]),
    )

    assert key.public == VerifyingKey.from_hex(vector["public"])
    assert key.sign(message) == signature
    assert key.public.is_signature(signature, message)
    assert not key.public.is_signature(signature, message + b"x")
    assert not key.public.is_signature(signature[:-1], message)


def test_the_tests_own_hpke_agrees_with_rfc_9180():
    (vector,) = read_blocks("hpke.txt")
    raw = {name: bytes.fromhex(value) for name, value in vector.items() if name != "name"}
    shared = x25519.X25519PrivateKey.from_private_bytes(raw["private"]).exchange(
        x25519.X25519PublicKey.from_public_bytes(raw["enc"])
    )
    suite = b"KEM\0\x20"
    extracted = labeled_extract(suite, b"", b"eae_prk", shared)
    secret = labeled_expand(suite, extracted, b"shared_secret", raw["enc"] + raw["public"], 32)

    assert secret == raw["secret"]
    assert key_schedule(0x20, 1, 16, secret, raw["info"]) == (raw["key"], raw["nonce"])
    assert AESGCM(raw["key"]).decrypt(raw["nonce"], raw["ciphertext"], raw["aad"]) == raw["plaintext"]


def test_a_kem_key_is_expanded_from_its_seed_as_the_x_wing_draft_says():
    (vector,) = read_blocks("xwing.txt")
    seed = bytes.fromhex(vector["seed"])

    assert KemPrivateKey(seed).public.hex == vector["public"]
    assert xwing_decapsulate(seed, bytes.fromhex(vector["ciphertext"])).hex() == vector["secret"]


def test_a_second_hpke_opens_what_was_wrapped():
    private = kem_key(7)
    wrapped = wrap(private.public, b"s" * 32, b"some info")

    secret = xwing_decapsulate(private.seed, wrapped[:1120])
    key, nonce = key_schedule(0x647A, 2, 32, secret, b"some info")

    assert len(wrapped) == 32 + WRAP_OVERHEAD_BYTES
    assert AESGCM(key).decrypt(nonce, wrapped[1120:], b"") == b"s" * 32
    with pytest.raises(InvalidTag):
        AESGCM(key).decrypt(nonce, wrapped[1120:], b"other")


def test_a_wrapped_secret_opens_only_with_its_key_its_info_and_all_its_bytes():
    private, wrapped = kem_key(7), wrap(kem_key(7).public, b"s" * 32, b"info")

    assert unwrap(private, wrapped, b"info") == b"s" * 32
    for key, data, info in [
        (kem_key(8), wrapped, b"info"),
        (private, wrapped, b"inf0"),
        (private, wrapped[:-1], b"info"),
        (private, wrapped + b"\0", b"info"),
        (private, b"", b"info"),
        (private, bytes([wrapped[0] ^ 1]) + wrapped[1:], b"info"),
        (private, wrapped[:1100] + bytes([wrapped[1100] ^ 1]) + wrapped[1101:], b"info"),
    ]:
        with pytest.raises(IntegrityError, match="does not unwrap") as caught:
            unwrap(key, data, info)
        assert caught.value.code == "E-KEY-RELEASE"


def test_nothing_is_wrapped_to_a_low_order_point():
    weak = KemPublicKey(kem_key(7).public.raw[:1184] + bytes(32))

    with pytest.raises(PeerError, match="nothing can be wrapped"):
        wrap(weak, b"s" * 32, b"info")


@pytest.mark.parametrize("raw", [b"", bytes(1215), bytes(1217), b"\xff" * 1216], ids=["empty", "short", "long", "modulus"])
def test_what_is_no_kem_key_is_refused(raw):
    with pytest.raises(PeerError) as caught:
        KemPublicKey(raw)

    assert caught.value.code == "E-FORMAT"


PRIME, CURVE_D = 2**255 - 19, -121665 * pow(121666, -1, 2**255 - 19) % (2**255 - 19)


def order_divides_eight(raw):
    """Return whether `raw`, sign bit cleared, is a point P with 8P the neutral one (RFC 8032 section 5.1.4 formulas)."""
    y = int.from_bytes(raw, "little") % PRIME
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    assert (x * x - square) % PRIME == 0, "not on the curve"
    for _ in range(3):
        product = CURVE_D * x * x * y * y
        x, y = (
            2 * x * y * pow(1 + product, -1, PRIME) % PRIME,
            (y * y + x * x) * pow(1 - product, -1, PRIME) % PRIME,
        )
    return (x, y) == (0, 1)


def test_a_key_under_which_anyone_can_sign_is_refused():
    assert len(_SMALL_ORDER) == 7
    for raw in _SMALL_ORDER:
        assert order_divides_eight(raw)
        for signed in (raw, raw[:-1] + bytes([raw[-1] | 0x80])):
            with pytest.raises(PeerError, match="small order"):
                VerifyingKey(signed)
    assert not order_divides_eight(signing_key(2).public.raw[:-1] + bytes([signing_key(2).public.raw[-1] & 0x7F]))


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "AB" * 32, " ab" * 32, "zz" * 32])
def test_a_key_in_hex_has_one_spelling(text):
    with pytest.raises(PeerError):
        VerifyingKey.from_hex(text)


@pytest.mark.parametrize("key", [signing_key(1), kem_key(1)], ids=["signing", "kem"])
def test_key_files_hold_what_was_written(key):
    line = encode_private_key(key)

    assert parse_private_key(line) == key
    assert parse_private_key(line.removesuffix("\n")) == key
    assert parse_public_key(encode_public_key(key.public)) == key.public
    assert encode_public_key(key.public).count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "carnet-signing-key-2:AAAA",
        "carnet-signing-key-1:AAAA",
        "carnet-kem-key-1:not base64",
        "carnet-signing-key-1:" + "A" * 5_000,
        encode_private_key(signing_key(1)) + "\n",
        encode_public_key(signing_key(1).public),
    ],
)
def test_what_is_no_private_key_file_is_refused_and_not_shown(text):
    with pytest.raises(PeerError) as caught:
        parse_private_key(text)

    assert text.partition(":")[2][:8] not in str(caught.value) or len(text) < 10


@given(st.text(max_size=120))
@settings(max_examples=50)
def test_any_text_is_a_public_key_file_or_refused(text):
    for line in (text, "carnet-signing-public-1:" + text):
        try:
            key = parse_public_key(line)
        except PeerError:
            continue
        assert encode_public_key(key).rstrip("\n") == line.removesuffix("\n")


def test_no_repr_shows_a_secret():
    for key in (signing_key(65), kem_key(65)):
        shown = f"{key!r} {key} {[key]}"
        assert "41" * 8 not in shown
        assert "AAAA" not in shown
        assert key.public.keyid in shown


def test_secrets_are_equal_by_value_and_are_no_dictionary_keys():
    assert SigningKey(bytes(32)) == SigningKey(bytes(32))
    assert SigningKey(bytes(32)) != SigningKey(b"\1" * 32)
    assert KemPrivateKey(bytes(32)) != SigningKey(bytes(32))
    with pytest.raises(TypeError):
        hash(SigningKey(bytes(32)))


def test_the_key_commitment_depends_on_key_and_transfer():
    one, other = TransferId("0" * 32), TransferId("1" * 32)

    assert key_commitment(1, bytes(32), one) != key_commitment(1, bytes(32), other)
    assert key_commitment(1, bytes(32), one) != key_commitment(1, b"\1" * 32, one)
    with pytest.raises(PeerError, match="unknown suite"):
        key_commitment(9, bytes(32), one)


def test_public_keys_are_values_shown_by_their_id():
    for key, same in [(kem_key(1).public, kem_key(1).public), (signing_key(1).public, signing_key(1).public)]:
        assert {key: 1}[same] == 1
        assert repr(key).endswith(f"({key.keyid})")
        assert key.hex not in repr(key)
