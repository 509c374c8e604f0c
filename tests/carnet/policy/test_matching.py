import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.policy.facts import Assurance, Fact, FactType
from carnet.policy.matching import Answer, Assured, Glob, InGroup, Outside, Present, Range, answer, describe, negate, shown, suits
from tests.carnet.policy.policies import facts


def fact(value):
    return Fact(value, Assurance.DECLARED, "test")


@pytest.mark.parametrize(
    ("matcher", "value", "expected"),
    [
        ("image", "image", Answer.YES),
        ("image", "Image", Answer.NO),
        (("image", "index"), "index", Answer.YES),
        (("health", "genomic"), ("personal", "health"), Answer.YES),
        ("health", ("personal",), Answer.NO),
        (True, True, Answer.YES),
        (False, True, Answer.NO),
        (10, 10, Answer.YES),
        (Range(min=5), 5, Answer.YES),
        (Range(min=5, max=7), 8, Answer.NO),
        (Range(max=-1), 0, Answer.NO),
        (Glob(glob="team/*"), "team/a/b", Answer.YES),
        (Glob(glob=("a*", "b*")), ("x", "bee"), Answer.YES),
        (Glob(glob="A*"), "abc", Answer.NO),
        (Present(present=True), "x", Answer.YES),
        (Present(present=False), "x", Answer.NO),
        (Assured(assurance="declared"), "x", Answer.YES),
        (Assured(assurance="derived"), "x", Answer.NO),
        (Assured(assurance="declared", value=("x", "y")), "x", Answer.YES),
        (Assured(assurance="declared", value="y"), "x", Answer.NO),
        (Assured(assurance="derived", value="x"), "x", Answer.NO),
    ],
)
def test_a_matcher_answers_about_a_known_fact(matcher, value, expected):
    assert answer(matcher, fact(value)) is expected


@pytest.mark.parametrize(
    ("matcher", "value"),
    [
        (True, "true"),
        (1, True),
        (True, 1),
        ("1", 1),
        (Range(min=1), True),
        (Range(min=1), "5"),
        (Glob(glob="*"), 5),
        (("a", 1), "a"),
        (Assured(assurance="declared", value=1), "1"),
        (InGroup(group="EU"), 5),
        (Outside(outside="EU"), True),
    ],
)
def test_a_fact_of_another_type_is_an_error_and_never_a_no(matcher, value):
    assert answer(matcher, fact(value)) is Answer.ERROR


@pytest.mark.parametrize("matcher", ["x", ("x", "y"), Range(min=0), Glob(glob="*"), True])
def test_only_present_can_be_answered_without_the_fact(matcher):
    assert answer(matcher, None) is Answer.MISSING
    assert answer(Present(present=False), None) is Answer.YES
    assert answer(Present(present=True), None) is Answer.NO


def test_one_no_settles_a_conjunction_whatever_is_missing():
    doubts = (Answer.MISSING, Answer.UNSTATED, Answer.STALE, Answer.ERROR, Answer.UNKNOWN_CODE)

    assert max(*doubts, Answer.NO) is Answer.NO
    assert max(doubts) is Answer.UNKNOWN_CODE
    assert min(*doubts, Answer.YES) is Answer.YES


def test_what_is_missing_stays_missing_when_negated():
    assert negate(Answer.YES) is Answer.NO
    assert negate(Answer.NO) is Answer.YES
    assert all(negate(each) is each for each in Answer if each not in (Answer.YES, Answer.NO))


def test_a_matcher_suits_only_the_types_it_can_answer_about():
    assert not suits(Range(min=1), FactType.TEXT)
    assert not suits("x", FactType.FLAG)
    assert not suits(("x", 1), FactType.TEXT)
    assert suits(Glob(glob="*"), FactType.TEXTS)
    assert suits(Present(present=True), FactType.FLAG)


def test_a_matcher_is_described_in_words_that_follow_the_name():
    assert describe(Range(min=1, max=9)) == "is at least 1 and at most 9"
    assert describe(("a", "b")) == "is one of 'a', 'b'"
    assert describe(Glob(glob="a*")) == "fits 'a*'"
    assert describe(Present(present=False)) == "is not given"


def test_values_are_shown_escaped_and_short():
    assert shown("\x1b[31mred\u202e") == r"'\x1b[31mred\u202e'"
    assert len(shown("x" * 5_000)) <= 120
    assert shown(tuple("abcdefgh")).endswith("and 2 more")
    assert facts(artifact__size=3)["artifact.size"].value == 3


@given(st.one_of(st.booleans(), st.integers(), st.text(), st.lists(st.text()).map(tuple)))
def test_a_value_equals_itself_and_every_answer_is_total(value):
    assert answer(Present(present=True), fact(value)) is Answer.YES
    if not isinstance(value, tuple):
        assert answer(value, fact(value)) is Answer.YES
    for matcher in (True, 1, "x", ("x",), Range(min=0), Glob(glob="[")):
        assert answer(matcher, fact(value)) in (Answer.YES, Answer.NO, Answer.ERROR)
