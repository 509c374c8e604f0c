"""Canonical JSON is what the library for RFC 8785 writes, whatever of our values is written, and is read back as it was."""

import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from carnet.encoding import INTEGER_MAX, canonical, parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(VALUES)
@example({"\x7f": 1, "\x1f": '\x00\b\t\n\f\r"\\/', "": [], "a": {}})
@example({"\U00010000": 1, "\ufffd": 2, "é": 3})
def test_what_is_written_is_what_the_library_writes_and_reads_back_alike(value):
    assert canonical(value) == rfc8785.dumps(value)
    assert parse_json(canonical(value), bytes_max=100_000) == value
