"""Errors across the wire: an error becomes a problem document at one end and the same error at the other.

Family and code are the contract, so a command prints and exits alike whether a failure is local or the gateway's.

Rules:      1. restoring what was described gives the same family, code, text and remedy
            2. a document from outside never yields a code or family that we do not know
Spec:       docs/protocol.md section "Problems"; RFC 9457

Example:
            >>> from carnet.errors import NotFound
            >>> restored = error_of(problem_of(NotFound("E-ARTIFACT-UNKNOWN", "no artifact app:v9"), request="1f"))
            >>> type(restored).__name__, restored.code, restored.problem
            ('NotFound', 'E-ARTIFACT-UNKNOWN', 'no artifact app:v9')
"""

from typing import Final

from carnet.errors import (
    CODES,
    FAMILIES,
    CallerError,
    CapacityError,
    CarnetError,
    Conflict,
    InternalError,
    NotAuthenticated,
    NotAuthorised,
    NotFound,
    PeerError,
    Unavailable,
)
from carnet.limits import TEXT_CHARS_MAX
from carnet.messages import Problem, ReasonView

RETRY_AFTER_S_MAX: Final = 300
"""Longest wait that a peer can ask of us, in seconds."""
_TYPE_PREFIX: Final = "urn:carnet:problem:"
_BUSY_STATUSES: Final = frozenset({429, 503, 507})
_UNREACHABLE_STATUSES: Final = frozenset({502, 504})
_FAMILY_BY_STATUS: Final[dict[int, type[CarnetError]]] = {
    400: CallerError,
    401: NotAuthenticated,
    403: NotAuthorised,
    404: NotFound,
    409: Conflict,
}


def problem_of(error: CarnetError, *, request: str) -> Problem:
    """Return the problem document for `error`; `request` is the id under which the server's log has it."""
    return Problem(
        type=_TYPE_PREFIX + error.code,
        title=error.title,
        status=error.http_status,
        detail=error.problem[:TEXT_CHARS_MAX],
        code=error.code,
        family=type(error).__name__,
        remedy=error.remedy[:TEXT_CHARS_MAX],
        request=request,
        limit=error.limit if isinstance(error, CapacityError | Unavailable) else None,
        retry_after_s=error.retry_after_s if isinstance(error, Unavailable) else None,
        reasons=tuple(reason for reason in error.reasons if isinstance(reason, ReasonView)),
    )


def error_of(problem: Problem) -> CarnetError:
    """Return the error that `problem` describes, to be raised; it is never the bare base (rule 2)."""
    family = FAMILIES.get(problem.family) or _family_of(problem.status)
    known = problem.code in CODES
    code = problem.code if known else _code_of(family)
    detail = problem.detail if known else f"{problem.detail} ({ascii(problem.code)[:40]})"
    error = _make(family, code, detail, problem)
    error.reasons = problem.reasons
    error.request = problem.request
    return error


def error_of_status(status: int, what: str, retry_after_s: int | None = None) -> CarnetError:
    """Return the error for an answer without a problem document, such as a proxy gives; `what` names the request."""
    if status in _BUSY_STATUSES:
        return Unavailable("E-BUSY", f"{what} was answered {status}", retry_after_s=_bounded(retry_after_s))
    if status in _UNREACHABLE_STATUSES:
        return Unavailable("E-UNREACHABLE", f"{what} was answered {status}", retry_after_s=_bounded(retry_after_s))
    return PeerError("E-REQUEST", f"{what} was answered {status} without a problem document")


def _make(family: type[CarnetError], code: str, detail: str, problem: Problem) -> CarnetError:
    if issubclass(family, Unavailable):
        return family(code, detail, remedy=problem.remedy, retry_after_s=_bounded(problem.retry_after_s), limit=problem.limit)
    if issubclass(family, CapacityError):
        return family(code, detail, remedy=problem.remedy, limit=problem.limit or "unnamed")
    return family(code, detail, remedy=problem.remedy)


def _bounded(retry_after_s: int | None) -> int:
    return min(max(retry_after_s if retry_after_s is not None else 2, 0), RETRY_AFTER_S_MAX)


def _family_of(status: int) -> type[CarnetError]:
    if status in _BUSY_STATUSES | _UNREACHABLE_STATUSES:
        return Unavailable
    return _FAMILY_BY_STATUS.get(status, InternalError if status >= InternalError.http_status else PeerError)


def _code_of(family: type[CarnetError]) -> str:
    if issubclass(family, InternalError):
        return "E-INTERNAL"
    return "E-BUSY" if issubclass(family, Unavailable) else "E-REQUEST"
