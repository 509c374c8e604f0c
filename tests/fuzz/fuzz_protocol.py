"""Fuzz targets of the wire: pages of rows, every message, problem documents, request paths, client certificates."""

from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding

from carnet import messages, paths
from carnet.errors import CODES, CarnetError, NotFound
from carnet.identifiers import SpiffeId
from carnet.messages import Problem
from carnet.problems import error_of, problem_of
from carnet.rowpage import SentRow, encode_row_page, parse_row_page
from gateway.http.identity import parse_leaf
from gateway.http.routes import match_for
from gateway.pki import Authority, new_key
from tests.carnet import message_samples as samples
from tests.carnet.samples import DOMAIN, TRANSFER, US, segment
from tests.fuzz.drive import Target

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AGENT = SpiffeId.make(DOMAIN, US, "agent", "build-1")
BODIES = (
    samples.declare_request,
    samples.commit_request,
    samples.forward_request,
    samples.site_message,
    samples.transfer_list,
    samples.artifact_release,
    samples.trust_response,
    samples.revocation_response,
    samples.enroll_request,
)


def row_page(data: bytes) -> None:
    """What reads is what would be written."""
    assert encode_row_page(parse_row_page(data)) == data


def problem(data: bytes) -> None:
    """Any problem document becomes an error that we know."""
    error = error_of(Problem.parse(data))
    assert type(error) is not CarnetError
    assert error.code in CODES


def path(data: bytes) -> None:
    """A path that matches has components that its handler can read, or refuse in our words."""
    match = match_for(AGENT, "GET", data.decode("latin-1"))
    assert not {"/..", "\n", "%"} & set(match.names.values())


def leaf(data: bytes) -> None:
    """A certificate is an identity or refused."""
    parse_leaf(data)


def message_target(name: str, seed: messages.Message) -> Target:
    """A body is a message or refused; a message reads back as itself."""
    kind = type(seed)

    def run(data: bytes) -> None:
        found = kind.parse(data)
        assert kind.parse(found.encode()) == found

    return Target(f"message-{name}", run, [seed.encode()])


def targets() -> list[Target]:
    """Return the targets of the wire."""
    certificate = Authority.create(US, NOW).issue_client(AGENT, new_key().public_key(), NOW)
    page = encode_row_page([SentRow(segment(1), 70_000, b"sealed row"), SentRow(segment(2), 5, b"another")])
    return [
        Target("row-page", row_page, [page]),
        Target("problem", problem, [problem_of(NotFound("E-ARTIFACT-UNKNOWN", "no artifact app:v9"), request="ab").encode()]),
        Target("path", path, [paths.transfer(TRANSFER).encode(), b"/log/tile/entries/x001/234.p/7", b"/v1/artifacts/a/b:v1"]),
        Target("leaf", leaf, [certificate.public_bytes(Encoding.DER)]),
        *(message_target(type(make()).__name__, make()) for make in BODIES),
    ]
