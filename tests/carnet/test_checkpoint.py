import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.checkpoint import (
    Checkpoint,
    log_key,
    log_origin,
    open_checkpoint,
    parse_checkpoint,
    sign_checkpoint,
    signers,
)
from carnet.encoding import encode_base64
from carnet.errors import IntegrityError, PeerError
from carnet.merkle import EMPTY_ROOT, SIZE_MAX
from carnet.notes import NoteKey, sign_note
from tests.carnet.samples import DOMAIN, EU, US, signing_key

ORIGIN = log_origin(DOMAIN, EU)
ROOT = bytes(range(32))


def test_the_example_of_the_specification_is_read():
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"

    checkpoint = parse_checkpoint(text)

    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.text() == text


@given(st.integers(1, SIZE_MAX), st.binary(min_size=32, max_size=32))
@settings(max_examples=40)
def test_a_checkpoint_opens_as_it_was_signed(size, root):
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = sign_checkpoint(checkpoint, signing_key(1))

    assert open_checkpoint(note.encode(), origin=ORIGIN, key=signing_key(1).public) == checkpoint
    assert open_checkpoint(note, origin=ORIGIN, key=signing_key(1).public) == checkpoint


def test_the_empty_log_has_the_empty_root():
    assert parse_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text()).size == 0

    with pytest.raises(PeerError):
        parse_checkpoint(Checkpoint(ORIGIN, 0, ROOT).text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n5\n{encode_base64(ROOT)}",
        f"{ORIGIN}\n5\n{encode_base64(ROOT)}\n\n",
        f"{ORIGIN}\n5\n{encode_base64(ROOT)}\nextension\n",
        f"\n5\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n05\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n-5\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n+5\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n\u0665\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n9007199254740992\n{encode_base64(ROOT)}\n",
        f"{ORIGIN}\n5\n{encode_base64(ROOT[:31])}\n",
        f"{ORIGIN}\n5\n{ROOT.hex()}\n",
    ],
)
def test_another_form_is_refused(text):
    with pytest.raises(PeerError) as caught:
        parse_checkpoint(text)

    assert caught.value.code == "E-FORMAT"


def test_a_checkpoint_of_another_log_or_key_is_refused():
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, ROOT), signing_key(1))

    with pytest.raises(IntegrityError):
        open_checkpoint(note, origin=log_origin(DOMAIN, US), key=signing_key(1).public)
    with pytest.raises(IntegrityError):
        open_checkpoint(note, origin=ORIGIN, key=signing_key(2).public)


def test_a_checkpoint_signed_under_the_right_name_for_another_log_is_refused():
    note = sign_note(Checkpoint(log_origin(DOMAIN, US), 5, ROOT).text(), ORIGIN, signing_key(1))

    with pytest.raises(IntegrityError) as caught:
        open_checkpoint(note, origin=ORIGIN, key=signing_key(1).public)
    assert caught.value.code == "E-PROOF"


def test_witnesses_among_the_signers_are_found():
    witness = NoteKey("witness.example", signing_key(2).public)
    note = sign_checkpoint(Checkpoint(ORIGIN, 5, ROOT), signing_key(1))

    assert signers(note, [witness]) == ()
    assert signers(note.with_signature(witness.name, signing_key(2)), [witness]) == (witness,)
    assert signers(note, [log_key(DOMAIN, EU, signing_key(1).public)]) != ()
