import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError, CarnetError, IntegrityError, PeerError
from carnet.notes import Note, NoteKey, NoteSignature, parse_note, parse_vkey, sign_note, verify_note
from tests.carnet.samples import outcome, signing_key
from tests.vectors.blocks import expand, read_blocks

NAME = "example.com/log"
KEY = NoteKey(NAME, signing_key(1).public)
texts = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), max_size=20)
note_texts = st.lists(texts, min_size=1, max_size=5).map(lambda lines: "\n".join(lines) + "\n")


@pytest.mark.parametrize("vector", read_blocks("signed_note.txt"), ids=lambda vector: vector["name"])
def test_notes_are_judged_as_the_vectors_say(vector):
    data = expand(vector["note"])
    try:
        note = parse_note(data)
        verify_note(note, [parse_vkey(vector["vkey"])])
        outcome = "ok"
        assert note.encode() == data
    except CarnetError as error:
        outcome = error.code

    assert outcome == vector["expect"]


@given(note_texts)
@settings(max_examples=60)
def test_any_text_can_be_signed_and_read_back(text):
    note = sign_note(text, NAME, signing_key(1))

    read = parse_note(note.encode())

    assert read == note
    assert verify_note(read, [KEY]) == (KEY,)


@pytest.mark.parametrize("text", ["", "no newline", "tab\there\n", "bell\x07\n", "cr\r\n"])
def test_text_that_is_no_note_is_not_signed(text):
    with pytest.raises(ValueError):
        sign_note(text, NAME, signing_key(1))


@pytest.mark.parametrize("name", ["", "two words", "a+b", "nbsp\u00a0x", "x" * 256, "line\nbreak"])
def test_a_key_name_has_no_space_and_no_plus(name):
    with pytest.raises(CallerError) as caught:
        NoteKey(name, signing_key(1).public)

    assert caught.value.code == "E-NAME"


def test_unknown_signers_are_ignored_and_known_ones_named():
    other = NoteKey("example.com/witness", signing_key(2).public)
    note = sign_note("x\n", NAME, signing_key(1)).with_signature(other.name, signing_key(2)).with_signature("c", signing_key(3))

    assert verify_note(note, [KEY]) == (KEY,)
    assert verify_note(note, [other, KEY]) == (other, KEY)


def test_the_same_name_with_another_key_is_a_stranger():
    note = sign_note("x\n", NAME, signing_key(2))

    with pytest.raises(IntegrityError, match="none of 1 known keys"):
        verify_note(note, [KEY])


def test_a_known_keys_bad_signature_spoils_a_note_that_another_signed():
    other = NoteKey("w", signing_key(2).public)
    good = sign_note("x\n", NAME, signing_key(1))
    spoiled = Note(good.text, (*good.signatures, NoteSignature("w", other.key_id, bytes(64))))

    with pytest.raises(IntegrityError, match="signature of w"):
        verify_note(spoiled, [KEY, other])


def test_a_vkey_survives_its_text():
    for number in range(1, 40):
        key = NoteKey(NAME, signing_key(number).public)
        assert parse_vkey(key.format()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        KEY.format().replace("+1", "+2", 1) if "+1" in KEY.format() else KEY.format().replace("+", "+0", 1),
        KEY.format().replace(NAME, "other"),
        KEY.format() + "AA",
        "sum.golang.org+033de0ae+Bc4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "a b+00000000+AA==",
        "x" * 600,
    ],
)
def test_another_vkey_is_refused(text):
    with pytest.raises(PeerError) as caught:
        parse_vkey(text)

    assert caught.value.code == "E-FORMAT"


def line(text):
    return ("x\n\n" + text + "\n").encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"x\n",
        b"\xff\n\n",
        line("- name AAAAAAAA"),
        line("\u2014 name"),
        line("\u2014 name "),
        line("\u2014  AAAAAAAA"),
        line("\u2014 name AAAA"),
        line("\u2014 name AAAAA==="),
        line("\u2014 name AAAAAAAA AAAA"),
        line("\u2014 na+me AAAAAAAA"),
        line("\n".join(["\u2014 name AAAAAAAA"] * 33)),
        b"x" * 65_537,
    ],
)
def test_another_form_is_refused(data):
    with pytest.raises(PeerError) as caught:
        parse_note(data)

    assert caught.value.code == "E-FORMAT"


@given(st.binary(max_size=150))
@settings(max_examples=80)
def test_any_bytes_are_a_note_that_encodes_alike_or_refused(data):
    for candidate in (data, b"x\n\n\xe2\x80\x94 name " + data):
        note, code = outcome(lambda candidate=candidate: parse_note(candidate))
        assert code == "E-FORMAT" if note is None else note.encode() == candidate
