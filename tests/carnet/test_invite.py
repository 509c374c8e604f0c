"""The line that lets one machine enrol once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import CallerError, PeerError
from carnet.identifiers import AgentName, Digest, SiteName
from carnet.invite import Invite, decode_secret, encode_secret

INVITE = Invite(
    url="https://gateway.example.com:8443",
    site=SiteName("us"),
    name=AgentName("ci"),
    ca="0a" * 32,
    root=Digest.of(b"roots"),
    id="0b" * 16,
    secret=bytes(range(32)),
)
LINE = INVITE.encode()


def test_an_invite_is_one_line_that_reads_back():
    assert LINE.startswith("carnet1.")
    assert LINE.isascii()
    assert "\n" not in LINE
    assert Invite.parse(f" {LINE}\n") == INVITE


@given(secret=st.binary(min_size=32, max_size=32), port=st.integers(1, 65_535))
def test_any_invite_reads_back(secret, port):
    invite = Invite(**{**vars(INVITE), "secret": secret, "url": f"https://[::1]:{port}"})

    assert Invite.parse(invite.encode()) == invite


def test_the_secret_is_not_in_the_repr():
    assert INVITE.secret.hex() not in repr(INVITE)
    assert encode_secret(INVITE.secret) not in repr(INVITE)
    assert repr(INVITE.secret) not in repr(INVITE)


@given(cut=st.integers(0, len(LINE) - 1))
def test_a_line_cut_anywhere_is_refused_without_showing_it(cut):
    with pytest.raises(CallerError) as caught:
        Invite.parse(LINE[:cut])

    assert caught.value.code == "E-INVITE"
    assert len(caught.value.problem) < 120


@given(position=st.integers(8, len(LINE) - 1), character=st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_line_is_refused_or_says_something_else(position, character):
    changed = LINE[:position] + character + LINE[position + 1 :]
    try:
        found = Invite.parse(changed)
    except CallerError:
        return
    assert (found == INVITE) == (changed == LINE)


@given(st.text(max_size=300))
def test_any_text_is_refused_cleanly(text):
    for line in (text, "carnet1." + text):
        with pytest.raises(CallerError):
            Invite.parse(line)


@pytest.mark.parametrize(
    ("member", "value"),
    [("url", "http://h:1"), ("url", "https://user@h:1"), ("ca", "00"), ("root", "sha256:0"), ("id", "1"), ("secret", bytes(31))],
)
def test_members_that_break_their_grammar_are_refused(member, value):
    line = Invite(**{**vars(INVITE), member: value}).encode()

    with pytest.raises(CallerError):
        Invite.parse(line)


@given(st.text(max_size=60))
def test_a_requests_secret_is_32_bytes_or_refused(text):
    with pytest.raises(PeerError) as caught:
        decode_secret(text)

    assert caught.value.code == "E-REQUEST"
    assert decode_secret(encode_secret(INVITE.secret)) == INVITE.secret
