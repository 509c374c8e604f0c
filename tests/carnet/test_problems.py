import pytest
from hypothesis import given
from hypothesis import strategies as st

from carnet.errors import CODES, FAMILIES, CapacityError, CarnetError, InternalError, PeerError, Unavailable
from carnet.messages import Problem
from carnet.problems import RETRY_AFTER_S_MAX, error_of, error_of_status, problem_of
from tests.carnet.message_samples import REASON


def make(family, code, text="what happened"):
    extra = {"limit": "parts_max"} if issubclass(family, CapacityError) else {}
    return family(code, text, **extra)


@pytest.mark.parametrize("family", list(FAMILIES.values()))
def test_family_and_code_survive_the_wire(family):
    for code in CODES:
        error = make(family, code)
        restored = error_of(Problem.parse(problem_of(error, request="ab").encode()))

        assert (type(restored), restored.code, str(restored), restored.remedy) == (family, code, str(error), error.remedy)
        assert restored.exit_status == error.exit_status


def test_reasons_survive_the_wire():
    error = make(FAMILIES["Refused"], "E-DENIED")
    error.reasons = (REASON,)
    assert error_of(problem_of(error, request="")).reasons == (REASON,)


def test_a_long_text_is_cut_rather_than_refused():
    assert len(problem_of(make(PeerError, "E-FORMAT", "x" * 5_000), request="").detail) == 1_000


@given(
    family=st.text(max_size=30),
    code=st.text(max_size=30),
    status=st.integers(100, 599),
    retry=st.none() | st.integers(-(2**40), 2**40),
)
def test_any_document_from_outside_becomes_an_error_with_a_known_code(family, code, status, retry):
    problem = Problem(
        type="t", title="t", status=status, detail="d", code=code, family=family, remedy="r", limit=None, retry_after_s=retry
    )
    error = error_of(problem)

    assert type(error) is not CarnetError
    assert error.code in CODES
    assert 0 <= getattr(error, "retry_after_s", 0) <= RETRY_AFTER_S_MAX


@pytest.mark.parametrize(
    ("status", "family", "code"),
    [
        (429, Unavailable, "E-BUSY"),
        (503, Unavailable, "E-BUSY"),
        (502, Unavailable, "E-UNREACHABLE"),
        (504, Unavailable, "E-UNREACHABLE"),
        (500, PeerError, "E-REQUEST"),
        (302, PeerError, "E-REQUEST"),
    ],
)
def test_an_answer_without_a_document_is_judged_by_its_status(status, family, code):
    error = error_of_status(status, "GET /v1/trust")
    assert (type(error), error.code) == (family, code)


def test_an_unknown_family_is_judged_by_the_status():
    problem = problem_of(make(InternalError, "E-INTERNAL"), request="")
    assert type(error_of(problem.model_copy(update={"family": "Novel"}))) is InternalError
    assert type(error_of(problem.model_copy(update={"family": "Novel", "status": 503}))) is Unavailable
