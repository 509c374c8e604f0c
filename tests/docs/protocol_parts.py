"""The parts of docs/protocol.md that are made from the program: paths, messages, limits, states."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from carnet import paths, rowpage
from carnet.limits import COMMIT_BYTES_MAX, MIB, REQUEST_JSON_BYTES_MAX, ROW_HEADER_CHARS_MAX, SEGMENT_BYTES_MAX
from carnet.messages import Message, Problem
from carnet.problems import problem_of
from carnet.transfer import MACHINES, Machine
from gateway.http import bounds
from gateway.http.routes import PEERS, PEOPLE, ROUTES, Route
from tests.carnet import message_samples as samples

MESSAGES: dict[str, tuple[str, Callable[[], Message]]] = {
    "DeclareRequest": ("POST /v1/transfers, by an agent", samples.declare_request),
    "DeclareResponse": ("its answer", samples.declare_response),
    "CommitRequest": ("POST .../commit, by an agent", samples.commit_request),
    "CommitResponse": ("its answer", samples.commit_response),
    "ForwardRequest": ("POST /v1/transfers, by a site", samples.forward_request),
    "ForwardResponse": ("its answer, and that of .../commit by a site", samples.forward_response),
    "SiteMessage": ("POST .../messages", samples.site_message),
    "SlipRequest": ("POST /v1/passages/{passage}/slips", samples.slip_request),
    "TransferView": (
        "GET /v1/transfers/{transfer}, and the answer of .../cancel, .../recall, .../releases and .../retry",
        samples.transfer_view,
    ),
    "TransferList": ("GET /v1/transfers and GET /v1/recalls", samples.transfer_list),
    "CancelRequest": ("POST .../cancel", samples.cancel_request),
    "RecallRequest": ("POST .../recall", samples.recall_request),
    "SealedArtifact": ("GET .../releases", samples.sealed_artifact),
    "RewrapRequest": ("POST .../releases", samples.rewrap_request),
    "ApprovalRequests": ("GET .../approvals", samples.approval_requests),
    "ApproveRequest": ("POST .../approvals", samples.approve_request),
    "ArtifactView": ("GET /v1/artifacts/{repository}:{tag}?view=summary", samples.artifact_view),
    "ArtifactList": ("GET /v1/artifacts", samples.artifact_list),
    "ArtifactRelease": ("GET /v1/artifacts/{repository}:{tag}", samples.artifact_release),
    "TrustResponse": ("GET /v1/trust", samples.trust_response),
    "RevocationResponse": ("GET /v1/revocations", samples.revocation_response),
    "EnrollRequest": ("POST /v1/enroll", samples.enroll_request),
    "EnrollResponse": ("its answer", samples.enroll_response),
    "RenewRequest": ("POST /v1/renew", samples.renew_request),
    "RenewResponse": ("its answer", samples.renew_response),
}
"""Every message that is a whole body: where it stands, and an example."""
_PARTS_OF_OTHERS = {
    "Message", "ReasonView", "Advice", "SignedStep", "DeliveryView", "KeyReleaseMessage", "ReceiptMessage",
    "DecisionMessage", "RecallMessage", "RecallView", "Problem", "ApprovedHold", "ApprovalsView", "ApprovalRequest", "NeedView",
    "GivenView",
}  # fmt: skip


def path_table() -> str:
    """Return a line for each route: who may ask, how long the body may be, what it is for."""
    rows = []
    for route in ROUTES:
        said = " ".join((route.handler.__doc__ or "").split())
        cells = (
            route.method,
            f"`{shown_path(route.pattern.pattern)}`",
            _audience(route),
            _size(route.body_bytes_max),
            _purpose(said),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(["| method | path | by | body at most | what |", "|---|---|---|---|---|", *rows])


def message_examples() -> str:
    """Return a heading, the promise, the bound and an example for each message."""
    pieces = []
    for name, (place, make) in MESSAGES.items():
        example = make()
        assert type(example).__name__ == name
        said = " ".join((type(example).__doc__ or "").split())
        body = json.dumps(json.loads(example.encode()), indent=2, ensure_ascii=False)
        pieces.append(f"### {name}\n{place}. {said} At most {_size(type(example).bytes_max)}.\n```json\n{body}\n```")
    return "\n\n".join(pieces)


def problem_example() -> str:
    """Return an example of a problem document."""
    from carnet.errors import Refused

    error = Refused("E-DENIED", "team/app:v1 may not go to eu")
    error.reasons = (samples.REASON.model_copy(update={"outcome": "deny"}),)
    problem: Problem = problem_of(error, request="5be1f0a2c3d4e5f6")
    return "```json\n" + json.dumps(json.loads(problem.encode()), indent=2, ensure_ascii=False) + "\n```"


def limit_table() -> str:
    """Return the limits of requests and connections; defaults of a server where an operator may set them."""
    rows = [
        f"| JSON body of a request | {_size(REQUEST_JSON_BYTES_MAX)} | but commit and a site's declare |",
        f"| commit, a site's declare | {_size(COMMIT_BYTES_MAX)} | |",
        f"| segment | {SEGMENT_BYTES_MAX} bytes | `Content-Length` MUST be there |",
        f"| `{paths.ROW_HEADER}` | {ROW_HEADER_CHARS_MAX} characters | base64 of at most {rowpage.ROW_BYTES_MAX} bytes |",
        f"| rows of a page | {rowpage.ROWS_MAX} | |",
        f"| items of a listing | {paths.PAGE_MAX} | {paths.PAGE_DEFAULT} if the request names no `limit` |",
        f"| long poll | {paths.WAIT_S_MAX} s | |",
    ]
    rows += [f"| `{name}` | {default} | {said} |" for name, default, said in _bounds()]
    return "\n".join(["| limit | value | |", "|---|---|---|", *rows])


def state_tables() -> str:
    """Return the three machines."""
    words = {
        "origin": "A transfer at its origin",
        "delivery": "A delivery, as its origin knows it",
        "destination": "A transfer at its destination",
    }
    return "\n\n".join(f"**{words[name]}** (`{name}`)\n\n{states_table(machine)}" for name, machine in MACHINES.items())


def states_table(machine: Machine) -> str:
    """Return the table of one machine: a line a state, with what may happen and where it leads."""
    rows = []
    for state, events in machine.items():
        following = ", ".join(f"{event} → {after}" for event, after in events.items())
        rows.append(f"| `{state}` | {following or 'ended'} |")
    return "\n".join(["| state | event → next state |", "|---|---|", *rows])


def shown_path(pattern: str) -> str:
    """Return a path pattern with its groups as `{name}`.

    >>> shown_path(r"/a/(?P<x>(?:b|c)+)/d")
    '/a/{x}/d'
    """
    shown, position = "", 0
    while (start := re.compile(r"\(\?P<(\w+)>").search(pattern, position)) is not None:
        shown += pattern[position : start.start()] + "{" + start[1] + "}"
        depth, position = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(pattern[position], 0)
            position += 1
    return shown + pattern[position:]


def _audience(route: Route) -> str:
    if not route.audience:
        return "anyone, without a certificate"
    if route.audience == PEOPLE:
        return "agents, people"
    return "sites" if route.audience == PEERS else "agents, people, sites"


def _purpose(said: str) -> str:
    return said.partition(": ")[2].rstrip(".").replace("|", "\\|")


def _size(count: int) -> str:
    if not count:
        return "none"
    return f"{count // MIB} MiB" if count % MIB == 0 else f"{count} bytes"


def _bounds() -> Iterator[tuple[str, object, str]]:
    """Yield name, default and docstring of each of the server's bounds."""
    tree = ast.parse(Path(bounds.__file__).read_text("utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef))
    defaults = bounds.Bounds()
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                yield name, getattr(defaults, name), " ".join(said.split())


def messages_without_example() -> set[str]:
    """Return the names of messages that no example shows; a test expects none."""
    known = {kind.__name__ for kind in _kinds(Message)}
    return known - set(MESSAGES) - _PARTS_OF_OTHERS


def _kinds(kind: type[Message]) -> Iterator[type[Message]]:
    for child in kind.__subclasses__():
        yield child
        yield from _kinds(child)
