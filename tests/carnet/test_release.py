import pytest

from carnet.encoding import encode_base64
from carnet.errors import IntegrityError, PeerError
from carnet.identifiers import LaneName, Repository, Tag, TransferId
from carnet.keys import key_commitment, wrap
from carnet.release import (
    KeyRelease,
    ResumeKeys,
    ResumePair,
    make_release,
    open_release,
    release_info,
    site_recipient,
)
from carnet.statement import parse_model
from tests.carnet.samples import AGENT, ARTIFACT_KEY, AT, DOMAIN, EU, TRANSFER, US, digest, kem_key, packing_list, signing_key

RECIPIENT = site_recipient(DOMAIN, EU)


def release(**changes):
    made = make_release(packing_list(), ARTIFACT_KEY, recipient=RECIPIENT, key_number=4, public=kem_key(1).public)
    return made.model_copy(update=changes)


def test_a_release_opens_for_its_recipient():
    assert open_release(release(), packing_list(), kem_key(1), recipient=RECIPIENT) == ARTIFACT_KEY
    assert release().key_number == 4


def test_a_release_survives_its_encoding():
    assert parse_model(KeyRelease, (made := release()).encode(), bytes_max=9_999) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer": TransferId("f" * 32)},
        {"waybill": digest("another")},
        {"sites": (EU,)},
        {"bases": (digest("base"),)},
    ],
)
def test_a_release_does_not_open_under_another_packing_list(changes):
    """A splice between transfers: everything is in the info."""
    other = packing_list(**changes)

    with pytest.raises(IntegrityError) as caught:
        open_release(release(), other, kem_key(1), recipient=RECIPIENT)
    assert caught.value.code == "E-KEY-RELEASE"


def test_a_release_for_another_recipient_or_key_is_refused_by_name():
    for made, private, recipient in [
        (release(), kem_key(1), site_recipient(DOMAIN, US)),
        (release(recipient=site_recipient(DOMAIN, US)), kem_key(1), RECIPIENT),
        (release(), kem_key(2), RECIPIENT),
        (release(suite=2), kem_key(1), RECIPIENT),
    ]:
        with pytest.raises(IntegrityError) as caught:
            open_release(made, packing_list(), private, recipient=recipient)
        assert caught.value.code == "E-KEY-RELEASE"


def test_a_release_readdressed_by_a_thief_does_not_open():
    """Sign-then-forward: the recipient is inside the info, so changing the name on it is not enough."""
    thief = site_recipient(DOMAIN, US)

    with pytest.raises(IntegrityError, match="does not unwrap"):
        open_release(release(recipient=thief), packing_list(), kem_key(1), recipient=thief)


def test_a_wrong_key_in_a_good_wrap_is_caught_by_the_commitment():
    other_key = b"\x99" * 32
    wrapped = wrap(kem_key(1).public, other_key, release_info(packing_list(), RECIPIENT, kem_key(1).public.digest))

    with pytest.raises(IntegrityError) as caught:
        open_release(release(wrapped=encode_base64(wrapped)), packing_list(), kem_key(1), recipient=RECIPIENT)
    assert caught.value.code == "E-COMMITMENT"


@pytest.mark.parametrize("key", [b"\x99" * 32, ARTIFACT_KEY + b"\0", b""])
def test_a_key_that_was_not_committed_to_is_not_wrapped(key):
    with pytest.raises(IntegrityError) as caught:
        make_release(packing_list(), key, recipient=RECIPIENT, key_number=1, public=kem_key(1).public)

    assert caught.value.code == "E-COMMITMENT"


def test_an_unknown_suite_is_refused_on_both_sides():
    strange = packing_list(suite=300)

    with pytest.raises(PeerError, match="unknown suite"):
        make_release(strange, ARTIFACT_KEY, recipient=RECIPIENT, key_number=1, public=kem_key(1).public)
    with pytest.raises(PeerError, match="unknown suite"):
        open_release(release(suite=300), strange, kem_key(1), recipient=RECIPIENT)


def test_the_info_has_a_length_before_each_field():
    info = release_info(packing_list(), RECIPIENT, kem_key(1).public.digest)

    assert info.startswith(b"\0\x11carnet/release/v1\0\x01\x01\0\x10" + TRANSFER.raw + b"\0\x20")
    assert len(info) == 7 * 2 + 17 + 1 + 16 + 32 + 32 + len(RECIPIENT) + 32


def resume(**changes):
    fields = {
        "agent": AGENT,
        "transfer": TRANSFER,
        "lane": LaneName("home"),
        "repository": Repository("team/app"),
        "tag": Tag("v1"),
        "suite": 1,
        "chunk_average": 16_384,
        "at": AT,
    }
    return ResumeKeys.make(ResumePair(b"r" * 32, b"l" * 32), kem_key(2).public, **(fields | changes))


def test_resume_keys_open_for_the_agent_that_wrapped_them():
    envelope = resume().sign(signing_key(1))

    opened = ResumeKeys.open(envelope, [signing_key(1).public]).open_keys(kem_key(2))

    assert opened == ResumePair(b"r" * 32, b"l" * 32)
    assert "rrr" not in repr(opened)


@pytest.mark.parametrize(
    "changes",
    [
        {"transfer": TransferId("f" * 32)},
        {"lane": LaneName("us-eu")},
        {"repository": Repository("team/other")},
        {"tag": Tag("v2")},
        {"chunk_average": 32_768},
        {"key_digest": "0" * 64},
    ],
)
def test_resume_keys_do_not_move_to_another_push(changes):
    moved = resume().model_copy(update=changes)

    with pytest.raises(IntegrityError) as caught:
        moved.open_keys(kem_key(2))
    assert caught.value.code == "E-KEY-RELEASE"


def test_resume_keys_of_another_length_are_refused():
    short = resume()
    short = short.model_copy(update={"wrapped": encode_base64(wrap(kem_key(2).public, b"x" * 63, short.info()))})

    with pytest.raises(IntegrityError, match="not two keys"):
        short.open_keys(kem_key(2))


def test_the_commitment_in_the_sample_is_that_of_its_key():
    assert packing_list().key_commitment == key_commitment(1, ARTIFACT_KEY, TRANSFER).hex()


def test_a_field_too_long_for_its_length_is_no_part_of_an_info():
    long = packing_list().model_copy(update={"transfer": TRANSFER})

    with pytest.raises(ValueError, match="65535"):
        release_info(long, "x" * 65_536, kem_key(1).public.digest)
