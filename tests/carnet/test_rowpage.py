import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import PeerError
from carnet.identifiers import SegmentId
from carnet.limits import SEGMENT_BYTES_MAX
from carnet.rowpage import ROW_BYTES_MAX, ROWS_MAX, SentRow, encode_row_page, parse_row_page
from tests.carnet.samples import segment

IDS = st.binary(min_size=32, max_size=32).map(lambda raw: SegmentId.from_binary(b"\x01" + raw))
ROWS = st.builds(SentRow, IDS, st.integers(1, SEGMENT_BYTES_MAX), st.binary(min_size=1, max_size=40))
PAGES = st.lists(ROWS, max_size=8, unique_by=lambda row: row.segment).map(sorted)


@given(PAGES)
def test_what_is_encoded_is_read_back(rows):
    assert parse_row_page(encode_row_page(rows)) == rows


def read_or_refuse(page):
    """Return the rows of a page, or None if it is refused as a page should be."""
    try:
        return parse_row_page(page)
    except PeerError as error:
        return None if error.code == "E-FORMAT" else error


@given(PAGES.filter(bool), st.data())
def test_a_page_that_was_cut_is_refused_or_holds_fewer_rows(rows, data):
    page = encode_row_page(rows)
    found = read_or_refuse(page[: data.draw(st.integers(0, len(page) - 1))])
    assert found is None or (found == rows[: len(found)] and len(found) < len(rows))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_page_or_refused(data):
    found = read_or_refuse(data)
    assert found is None or encode_row_page(found) == data


def test_a_full_page_of_the_longest_rows_is_read():
    rows = [SentRow(segment(number), SEGMENT_BYTES_MAX, bytes(ROW_BYTES_MAX)) for number in range(ROWS_MAX)]
    assert parse_row_page(encode_row_page(rows)) == rows


@pytest.mark.parametrize(
    "rows",
    [
        [SentRow(segment(2), 1, b"a"), SentRow(segment(1), 1, b"a")],
        [SentRow(segment(1), 1, b"a"), SentRow(segment(1), 1, b"a")],
        [SentRow(segment(1), 0, b"a")],
        [SentRow(segment(1), SEGMENT_BYTES_MAX + 1, b"a")],
        [SentRow(segment(1), 1, b"")],
        [SentRow(segment(1), 1, bytes(ROW_BYTES_MAX + 1))],
        [SentRow(segment(number), 1, b"a") for number in range(ROWS_MAX + 1)],
    ],
    ids=["order", "twice", "no-segment", "large-segment", "no-row", "large-row", "many"],
)
def test_a_page_that_breaks_a_rule_is_refused(rows):
    with pytest.raises(PeerError, match="E-FORMAT"):
        parse_row_page(encode_row_page(rows))


def test_an_unknown_hash_algorithm_is_refused():
    page = bytearray(encode_row_page([SentRow(segment(1), 1, b"a")]))
    page[0] = 3
    with pytest.raises(PeerError, match="E-FORMAT"):
        parse_row_page(bytes(page))
