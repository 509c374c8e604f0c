import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carnet.errors import CallerError
from carnet.limits import POLICY_BYTES_MAX
from carnet.policy.source import parse_yaml


def problem(text: str) -> str:
    with pytest.raises(CallerError) as caught:
        parse_yaml(text)
    assert caught.value.code == "E-POLICY"
    return caught.value.problem


@pytest.mark.parametrize(
    "word", ["NO", "no", "yes", "on", "1:30", "0x1F", "1_000", "5D002", "1.5", "2026-11-24", "010", "+1", "True"]
)
def test_words_that_other_readers_turn_into_something_else_stay_text(word):
    assert parse_yaml(f"a: {word}").value == {"a": word}


def test_true_false_and_decimal_integers_are_the_only_other_scalars():
    assert parse_yaml("[true, false, 0, -3, 42, 'true', \"42\"]").value == [True, False, 0, -3, 42, "true", "42"]


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x", "a: !!python/object:os.system 1", "a: 1\n---\nb: 2", "a: !!str 1"])
def test_anchors_tags_and_second_documents_are_refused(text):
    assert problem(text).startswith("line ")


def test_a_duplicate_key_is_refused_with_its_line():
    assert problem("a: 1\nb: 2\na: 3") == "line 3: the key 'a' stands twice"


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "- 1\n-"])
def test_an_absent_value_is_refused(text):
    assert "a value is missing" in problem(text)


@pytest.mark.parametrize("text", ["", "# only a comment", "\x00", "a: [", "\ttab: 1", "a: 99999999999999999"])
def test_what_is_not_a_document_of_ours_is_refused_with_a_line(text):
    assert problem(text).startswith("line ")


def test_a_key_that_is_no_word_is_refused():
    assert "a key is a word" in problem("? [a, b]\n: 1")


def test_depth_is_bounded():
    assert "nested deeper" in problem("[" * 5_000)


def test_size_is_bounded():
    assert str(POLICY_BYTES_MAX) in problem("#" * (POLICY_BYTES_MAX + 1))


def test_lines_are_those_of_the_values():
    tree = parse_yaml("a:\n  - x: 1\n    y: 2\n  - z\n")

    assert [tree.line(path) for path in [("a",), ("a", 0, "y"), ("a", 1), ("a", 1, "unknown")]] == [1, 3, 4, 4]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{},&*!|>'\"#%@`?~ \n\t0\u0085\ud800é"), max_size=60))
def test_any_text_is_a_document_or_a_problem_with_a_line(text):
    try:
        parse_yaml(text)
    except CallerError as error:
        found = error.problem
    else:
        return

    assert found.startswith("line ")


@pytest.mark.parametrize("text", ["reason: 'no \u202eexport'", "reason: no \u2066x", "\u202areason: x"])
def test_text_that_would_be_shown_in_another_order_than_it_is_read_is_refused(text):
    with pytest.raises(CallerError, match="line 2: a character that turns the direction of the text"):
        parse_yaml(f"a: 1\n{text}")
