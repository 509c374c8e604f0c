import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CapacityError, CarnetError, IntegrityError, PeerError
from carnet.identifiers import PassageId, SiteName, TransferId
from carnet.keys import wrap
from carnet.letter import Direction, Letter, LetterKind, Place, open_letter, padded_length, seal_letter
from carnet.limits import LETTER_BYTES_MAX
from tests.carnet.samples import EU, PASSAGE, SG, TRANSFER, US, kem_key, signing_key
from tests.vectors.blocks import read_blocks

WRITER, RECIPIENT = signing_key(1), kem_key(1)
PLACE = Place(transfer=TRANSFER, passage=PASSAGE, sender=US, recipient=EU, direction=Direction.ONWARD, number=3)


def place(**changes):
    return Place(**({name: getattr(PLACE, name) for name in Place.__slots__} | changes))


def letter(body=b"{}", **changes):
    return Letter.at(place(**changes), LetterKind.MESSAGE, body, answers=None)


def sealed(made=None, key=WRITER):
    return seal_letter(made or letter(), key, number=7, public=RECIPIENT.public)


def opened(data, at=PLACE, writer=WRITER, key=RECIPIENT):
    return open_letter(data, at, key=lambda _number: key, writer=writer.public)


def test_a_letter_opens_at_its_place():
    assert opened(sealed()) == letter()


def test_the_number_of_the_key_is_told():
    asked = []

    def key(number):
        asked.append(number)
        return RECIPIENT

    open_letter(sealed(), PLACE, key=key, writer=WRITER.public)

    assert asked == [7]


MOVED = [
    {"transfer": TransferId("f" * 32)},
    {"passage": PassageId("0" * 32)},
    {"sender": SG},
    {"recipient": SiteName("us"), "sender": SiteName("eu")},
    {"direction": Direction.BACK},
    {"number": 4},
]


@pytest.mark.parametrize("changes", MOVED)
def test_a_letter_that_a_relay_moved_does_not_open(changes):
    with pytest.raises(IntegrityError, match="E-LETTER"):
        opened(sealed(), at=place(**changes))


@pytest.mark.parametrize("changes", MOVED)
def test_a_letter_that_was_written_for_another_place_is_refused_even_if_it_is_sealed_for_this_one(changes):
    """Whoever holds the far site's public key can seal; the signed inside says where it belongs."""
    envelope = letter(**changes).sign(WRITER).encode()
    plain = len(envelope).to_bytes(4, "big") + envelope
    plain += bytes(padded_length(len(plain)) - len(plain))
    forged = sealed()[:10] + wrap(RECIPIENT.public, plain, PLACE.info(1, RECIPIENT.public.digest))

    with pytest.raises(IntegrityError, match="E-LETTER"):
        opened(forged)


def test_a_letter_by_another_writer_is_refused():
    with pytest.raises(IntegrityError, match="E-SIGNATURE"):
        opened(sealed(key=signing_key(2)))


def test_a_letter_for_another_key_does_not_open():
    with pytest.raises(IntegrityError, match="E-LETTER"):
        opened(sealed(), key=kem_key(2))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_letter_with_any_byte_changed_is_refused(data):
    made = bytearray(sealed())
    made[data.draw(st.integers(0, len(made) - 1))] ^= data.draw(st.integers(1, 255))
    if made[6:10] != sealed()[6:10]:
        return  # the key's number alone: another key, or none, is looked up

    with pytest.raises(CarnetError, match=r"E-LETTER|E-FORMAT"):
        opened(bytes(made))


@pytest.mark.parametrize("length", [0, 9, 10, 1_145, 5_000])
def test_a_letter_cut_short_is_refused(length):
    with pytest.raises((IntegrityError, PeerError)):
        opened(sealed()[:length])


@pytest.mark.parametrize(
    "plain",
    [b"", b"\0\0", b"\0\0\x10\0" + bytes(4_092), b"\xff" * 4_096, bytes(4_095)],
    ids=["empty", "no length", "length beyond", "all ones", "not padded"],
)
def test_a_plaintext_that_is_not_padded_exactly_is_refused(plain):
    forged = sealed()[:10] + wrap(RECIPIENT.public, plain, PLACE.info(1, RECIPIENT.public.digest))

    with pytest.raises((IntegrityError, PeerError), match=r"E-LETTER|E-FORMAT"):
        opened(forged)


def test_a_byte_in_the_padding_is_refused():
    envelope = letter().sign(WRITER).encode()
    plain = bytearray(len(envelope).to_bytes(4, "big") + envelope)
    plain += bytes(padded_length(len(plain)) - len(plain))
    plain[-1] = 1

    with pytest.raises(IntegrityError, match="E-LETTER"):
        opened(sealed()[:10] + wrap(RECIPIENT.public, bytes(plain), PLACE.info(1, RECIPIENT.public.digest)))


def test_small_letters_are_of_one_length():
    assert len({len(sealed(letter(b"x" * size))) for size in range(1, 2_000, 199)}) == 1


def test_a_letter_that_no_relay_would_take_is_not_sealed():
    with pytest.raises(CapacityError, match="E-LIMIT"):
        sealed(letter(b"x" * (LETTER_BYTES_MAX * 3 // 4)))


def test_the_vectors_agree():
    for block in read_blocks("letter.txt"):
        if "length" in block:
            assert padded_length(int(block["length"])) == int(block["padded"])
            continue
        ends = (US, EU) if block["direction"] == "onward" else (EU, US)
        at = place(direction=Direction(block["direction"]), sender=ends[0], recipient=ends[1], number=int(block["number"]))
        assert at.info(1, bytes(range(32)).hex()).hex() == block["info"]
