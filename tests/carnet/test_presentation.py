"""What a person reads when a command fails."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import FAMILIES, CapacityError, NotFound, Unavailable
from carnet.presentation import error_document, error_lines, printable


def test_a_failure_is_what_happened_and_what_to_do():
    lines = error_lines("carnet", NotFound("E-ARTIFACT-UNKNOWN", "no artifact app:v9"))

    assert lines == ("carnet: no artifact app:v9 [E-ARTIFACT-UNKNOWN]", "hint: list artifacts with `carnet artifact list`")


def test_an_error_without_a_remedy_is_one_line():
    assert len(error_lines("carnet", NotFound("E-ARTIFACT-UNKNOWN", "no artifact", remedy=""))) == 1


@given(st.text(max_size=200) | st.text(alphabet="a\u2028\u2029\x85\x1b\u202e\ud800", min_size=1))
def test_text_of_a_peer_cannot_move_the_cursor_or_start_a_line(text):
    shown = printable(text)

    assert not {"Cc", "Cf", "Zl", "Zp", "Cs"} & {unicodedata.category(character) for character in shown}
    assert len(shown.splitlines()) <= 1
    assert len(shown) == len(text)


def test_every_family_has_a_document_with_its_exit_status():
    for family in FAMILIES.values():
        error = family("E-LIMIT", "text", **({"limit": "rows_max"} if family is CapacityError else {}))

        assert error_document(error)["exit_status"] == family.exit_status


def test_a_document_names_the_limit_and_the_wait():
    assert error_document(CapacityError("E-LIMIT", "too many", limit="rows_max"))["limit"] == "rows_max"
    assert error_document(Unavailable("E-BUSY", "busy", retry_after_s=7))["retry_after_s"] == 7
