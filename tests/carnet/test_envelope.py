import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.encoding import canonical, decode_base64, parse_json
from carnet.envelope import Envelope, Signature, pae, parse_envelope, sign, verify
from carnet.errors import CarnetError, IntegrityError, PeerError
from carnet.keys import SigningKey
from tests.carnet.samples import signing_key
from tests.vectors.blocks import expand, read_blocks

TYPE = "application/vnd.carnet.test.v1+json"
KEYS = {"A": SigningKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))}
KEYS["B"] = SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))


def vector_json(vector):
    signatures = []
    for one in vector["signatures"].split(" "):
        name, _, sig = one.partition("=")
        signatures.append({"sig": sig} | ({"keyid": KEYS[name].public.keyid} if name else {}))
    payload = "" if vector["payload"] == "none" else vector["payload"]
    return {"payload": payload, "payloadType": expand(vector["type"]).decode(), "signatures": signatures}


@pytest.mark.parametrize("vector", read_blocks("dsse.txt"), ids=lambda vector: vector["name"])
def test_envelopes_are_judged_as_the_dsse_vectors_say(vector):
    if "pae" in vector:
        payload = b"" if vector["payload"] == "none" else decode_base64(vector["payload"])
        assert pae(expand(vector["type"]).decode(), payload) == expand(vector["pae"])
    if vector["expect"] == "pae":
        return
    try:
        envelope = parse_envelope(canonical(vector_json(vector)))
        verify(
            envelope,
            payload_type=envelope.payload_type,
            keys=[key.public for key in KEYS.values()],
            threshold=int(vector["threshold"]),
        )
        outcome = "ok"
    except CarnetError as error:
        outcome = error.code

    assert outcome == vector["expect"]


def test_an_envelope_survives_its_encoding():
    envelope = sign(TYPE, b'{"a":1}', signing_key(1)).with_signature(signing_key(2))

    assert parse_envelope(envelope.encode()) == envelope
    assert parse_envelope(parse_json(envelope.encode(), bytes_max=9_999)) == envelope
    assert canonical(envelope.to_json()) == envelope.encode()


def test_a_key_signs_an_envelope_once():
    envelope = sign(TYPE, b"x", signing_key(1))

    assert envelope.with_signature(signing_key(1)) == envelope


def test_distinct_known_keys_are_counted():
    one, two, three = (signing_key(number) for number in (1, 2, 3))
    envelope = sign(TYPE, b"x", one).with_signature(two).with_signature(three)

    signers = verify(envelope, payload_type=TYPE, keys=[one.public, two.public], threshold=2)

    assert signers == tuple(sorted([one.public.keyid, two.public.keyid]))
    with pytest.raises(IntegrityError, match="signed by 2 known keys, expected 3"):
        verify(envelope, payload_type=TYPE, keys={"x": one.public, "y": two.public}, threshold=3)


def test_one_key_under_two_names_counts_once():
    envelope = sign(TYPE, b"x", signing_key(1))

    with pytest.raises(IntegrityError):
        verify(envelope, payload_type=TYPE, keys={"x": signing_key(1).public, "y": signing_key(1).public}, threshold=2)


def test_an_unknown_signer_is_ignored_even_with_nonsense():
    envelope = sign(TYPE, b"x", signing_key(1))
    noisy = Envelope(TYPE, b"x", (Signature("who", b"nonsense"), *envelope.signatures))

    assert verify(noisy, payload_type=TYPE, keys=[signing_key(1).public]) == (signing_key(1).public.keyid,)


def test_a_known_keys_bad_signature_spoils_the_envelope():
    good = sign(TYPE, b"x", signing_key(1)).with_signature(signing_key(2))
    forged = Envelope(TYPE, b"x", (good.signatures[0], Signature(signing_key(2).public.keyid, bytes(64))))

    with pytest.raises(IntegrityError, match="does not verify") as caught:
        verify(forged, payload_type=TYPE, keys=[signing_key(1).public, signing_key(2).public])
    assert caught.value.code == "E-SIGNATURE"


def test_nothing_signed_is_nothing_accepted():
    with pytest.raises(IntegrityError):
        verify(Envelope(TYPE, b"x", ()), payload_type=TYPE, keys=[signing_key(1).public])
    with pytest.raises(IntegrityError):
        verify(sign(TYPE, b"x", signing_key(1)), payload_type=TYPE, keys=[])
    with pytest.raises(ValueError, match="threshold"):
        verify(sign(TYPE, b"x", signing_key(1)), payload_type=TYPE, keys=[signing_key(1).public], threshold=0)


def test_a_signature_does_not_move_to_another_type_or_payload():
    envelope = sign(TYPE, b"x", signing_key(1))

    with pytest.raises(PeerError, match="payload type"):
        verify(envelope, payload_type=TYPE + "x", keys=[signing_key(1).public])
    for moved in (Envelope(TYPE + "x", b"x", envelope.signatures), Envelope(TYPE, b"y", envelope.signatures)):
        with pytest.raises(IntegrityError):
            verify(moved, payload_type=moved.payload_type, keys=[signing_key(1).public])


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_two_contents_never_sign_alike(kind, payload, other_kind, other_payload):
    same = (kind, payload) == (other_kind, other_payload)

    assert (pae(kind, payload) == pae(other_kind, other_payload)) == same


@pytest.mark.parametrize(
    "value",
    [
        [],
        "text",
        {"payload": "", "payloadType": ""},
        {"payload": "", "payloadType": "", "signatures": [], "more": 1},
        {"payload": 1, "payloadType": "", "signatures": []},
        {"payload": "=", "payloadType": "", "signatures": []},
        {"payload": "", "payloadType": "x" * 256, "signatures": []},
        {"payload": "", "payloadType": "", "signatures": {}},
        {"payload": "", "payloadType": "", "signatures": [{"sig": "AA=="}] * 33},
        {"payload": "", "payloadType": "", "signatures": [{}]},
        {"payload": "", "payloadType": "", "signatures": [{"sig": "AA==", "cert": ""}]},
        {"payload": "", "payloadType": "", "signatures": [{"sig": "AA==", "keyid": None}]},
        {"payload": "", "payloadType": "", "signatures": [["sig"]]},
    ],
)
def test_another_form_is_refused(value):
    with pytest.raises(PeerError) as caught:
        parse_envelope(value)

    assert caught.value.code == "E-FORMAT"


def test_an_envelope_larger_than_its_bound_is_refused():
    data = sign(TYPE, b"x" * 1_000, signing_key(1)).encode()

    with pytest.raises(PeerError, match="at most"):
        parse_envelope(data, bytes_max=len(data) - 1)


@given(st.data())
@settings(max_examples=60)
def test_a_flipped_bit_is_never_accepted_as_the_same_signer(data):
    """Either the envelope no longer parses, or nobody known signed it, or only the key's hint changed."""
    original = sign(TYPE, b'{"a":1}', signing_key(1)).encode()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= 1 << data.draw(st.integers(0, 6))
    try:
        envelope = parse_envelope(bytes(changed))
        verify(envelope, payload_type=TYPE, keys=[signing_key(1).public])
    except CarnetError:
        return

    assert envelope.payload == b'{"a":1}'
    assert envelope.payload_type == TYPE
