import hashlib
import hmac
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.encoding import canonical
from carnet.entries import EntryType, LogEvent, Opening, check_opening, commit_event, commitment, parse_entry
from carnet.errors import IntegrityError, PeerError
from carnet.limits import LOG_ENTRY_BYTES_MAX
from carnet.merkle import leaf_hash
from tests.carnet.samples import AT, outcome

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9_.-]{0,12}\Z"), json_values, max_size=6)


def salts():
    numbers = itertools.count(1)
    return lambda: bytes([next(numbers)]) * 32


def event(**values):
    return LogEvent(EntryType.DECISION_OFFER, AT, values)


@given(fields)
@settings(max_examples=60)
def test_an_entry_opens_to_each_value_that_was_committed_to(values):
    committed = commit_event(event(**values), salts())
    entry = parse_entry(committed.entry)

    assert committed.leaf_hash == leaf_hash(committed.entry)
    assert (entry.type, entry.at, set(entry.commit)) == (EntryType.DECISION_OFFER, AT, set(values))
    for name, value in values.items():
        opening = committed.openings[name]
        assert opening.value == value
        check_opening(entry, name, opening.salt, value)


def test_a_commitment_is_the_hmac_of_the_canonical_value():
    assert commitment(b"s" * 32, {"b": 1, "a": 2}) == hmac.digest(b"s" * 32, b'{"a":2,"b":1}', hashlib.sha256)
    assert commitment(b"s" * 32, "eu") == hmac.digest(b"s" * 32, b'"eu"', hashlib.sha256)


def test_an_entry_shows_type_and_time_and_no_value():
    committed = commit_event(event(repository="team/secret-app", size=1234567), salts())

    assert b"secret" not in committed.entry
    assert b"1234567" not in committed.entry
    assert b'"type":"decision-offer"' in committed.entry
    assert "secret" not in repr(committed.openings)


def test_equal_values_have_unlike_commitments():
    committed = commit_event(event(a="eu", b="eu"), salts())

    assert len(set(parse_entry(committed.entry).commit.values())) == 2


@pytest.mark.parametrize(
    ("name", "salt", "value"),
    [
        ("a", b"\1" * 32, "us"),
        ("a", b"\2" * 32, "eu"),
        ("a", b"\1" * 31, "eu"),
        ("a", b"", "eu"),
        ("b", b"\1" * 32, "eu"),
        ("a", b"\1" * 32, ["eu"]),
    ],
)
def test_another_value_salt_or_field_does_not_open(name, salt, value):
    entry = parse_entry(commit_event(event(a="eu"), salts()).entry)

    check_opening(entry, "a", b"\1" * 32, "eu")
    with pytest.raises(IntegrityError) as caught:
        check_opening(entry, name, salt, value)
    assert caught.value.code == "E-PROOF"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"at":"2026-11-24T12:00:00Z","commit":{},"type":"something-else","v":1}',
        b'{"at":"2026-11-24 12:00:00","commit":{},"type":"decision-offer","v":1}',
        b'{"at":"2026-11-24T12:00:00Z","commit":{},"type":"decision-offer","v":2}',
        b'{"at":"2026-11-24T12:00:00Z","commit":{"a":"00"},"type":"decision-offer","v":1}',
        b'{"at":"2026-11-24T12:00:00Z","commit":{},"extra":1,"type":"decision-offer","v":1}',
        b'{"v":1,"at":"2026-11-24T12:00:00Z","commit":{},"type":"decision-offer"}',
        b'{"at":"2026-11-24T12:00:00Z","commit":{},"type":"decision-offer"}',
        b'{"at":"2026-11-24T12:00:00Z","commit":{},"type":"decision-offer","v":1}\n',
        canonical({"at": AT, "commit": {f"f{number}": "0" * 64 for number in range(41)}, "type": "decision-offer", "v": 1}),
        b" " * (LOG_ENTRY_BYTES_MAX + 1),
    ],
)
def test_another_form_is_no_entry(data):
    with pytest.raises(PeerError) as caught:
        parse_entry(data)

    assert caught.value.code == "E-FORMAT"


def test_what_does_not_fit_an_entry_is_not_committed_to():
    for values in ({"Bad Name": 1}, {f"f{number}": 1 for number in range(41)}, {"x": 1.5}):
        with pytest.raises(PeerError):
            commit_event(event(**values), salts())


def test_a_short_salt_is_refused():
    with pytest.raises(ValueError):
        commit_event(event(a=1), lambda: b"short")


def test_an_opening_may_be_rebuilt_from_what_was_kept():
    committed = commit_event(event(a=["x", None]), salts())

    assert committed.openings["a"] == Opening(b"\1" * 32, ["x", None])


@given(st.binary(max_size=120))
@settings(max_examples=60)
def test_any_bytes_are_an_entry_or_refused(data):
    entry, code = outcome(lambda: parse_entry(data))

    assert code == "E-FORMAT" if entry is None else entry.encode() == data
