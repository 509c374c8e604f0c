"""The paths and headers of the protocol: built by the client and matched by the server from one file.

Every component of a path is made of characters that need no percent-encoding, so the server matches the path as it came on
the wire and a path with `%`, `..` or a backslash matches nothing.

Rules:      1. what a builder here returns, the pattern of the same name matches  2. patterns match whole paths only
Spec:       docs/protocol.md section "Paths"; C2SP tlog-tiles (paths below /log)

Example:
            >>> transfer(TransferId("00" * 16))
            '/v1/transfers/00000000000000000000000000000000'
"""

from typing import Final

from carnet.identifiers import PassageId, Repository, SegmentId, SiteName, Tag, TransferId

REQUEST_HEADER: Final = "Carnet-Request"
"""The request id, in every answer."""
ROW_HEADER: Final = "Carnet-Row"
"""The sealed row of the segment in the body, standard base64."""
NEXT_HEADER: Final = "Carnet-Next"
"""In a page of rows: the id to continue after; absent on the last page."""

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"
BINARY_TYPE: Final = "application/octet-stream"

WAIT_S_MAX: Final = 60
"""Longest long poll, in seconds."""
PAGE_MAX: Final = 1_000
"""Most items of one page of a listing."""
PAGE_DEFAULT: Final = 100
"""Items of one page when the request names no number."""

TRANSFERS: Final = "/v1/transfers"
RECALLS: Final = "/v1/recalls"
ARTIFACTS: Final = "/v1/artifacts"
SEGMENTS: Final = "/v1/segments"
PASSAGES: Final = "/v1/passages"
SITES: Final = "/v1/sites"
TRUST: Final = "/v1/trust"
REVOCATIONS: Final = "/v1/revocations"
ENROLL: Final = "/v1/enroll"
RENEW: Final = "/v1/renew"
LOG: Final = "/log"
HEALTH: Final = "/healthz"
READY: Final = "/readyz"
METRICS: Final = "/metrics"

TRANSFER_PATTERN: Final = r"/v1/transfers/(?P<transfer>[0-9a-f]{32})"
SEGMENT_COMPONENT: Final = r"(?P<segment>(?:b3|s2)-[0-9a-f]{64})"
PASSAGE_PATTERN: Final = r"/v1/passages/(?P<passage>[0-9a-f]{32})"
LETTER_COMPONENT: Final = r"letters/(?P<direction>onward|back)/(?P<number>0|[1-9][0-9]{0,8})"
ARTIFACT_PATTERN: Final = r"/v1/artifacts/(?P<repository>[a-z0-9._/-]{1,255}):(?P<tag>[A-Za-z0-9_.-]{1,128})"
CHECKPOINT: Final = "/log/checkpoint"
TILE_PATTERN: Final = (
    r"/log/tile/(?P<tile>(?:entries|[0-9]|[1-5][0-9]|6[0-3])/(?:x[0-9]{3}/){0,6}[0-9]{3}"
    r"(?:\.p/(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?)"
)
"""A tile or entry bundle: level, index in groups of three digits, width if partial (C2SP tlog-tiles)."""
FAR_TILE_PATTERN: Final = r"/v1/sites/(?P<site>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)" + TILE_PATTERN
"""A tile of the log of another site, asked of a relay that leads to it."""


def transfer(of: TransferId) -> str:
    """Return the path of a transfer."""
    return f"{TRANSFERS}/{of}"


def transfer_segment(of: TransferId, segment_id: SegmentId) -> str:
    """Return the path to PUT a segment of a transfer to."""
    return f"{TRANSFERS}/{of}/segments/{segment_id}"


def transfer_action(of: TransferId, action: str) -> str:
    """Return the path of `rows`, `commit`, `cancel`, `recall`, `retry`, `releases`, `approvals` or `messages` of a transfer."""
    return f"{TRANSFERS}/{of}/{action}"


def passage_slips(of: PassageId) -> str:
    """Return the path to POST a routing slip of a passage to."""
    return f"{PASSAGES}/{of}/slips"


def passage_segment(of: PassageId, segment_id: SegmentId) -> str:
    """Return the path to PUT a segment of a passage to."""
    return f"{PASSAGES}/{of}/segments/{segment_id}"


def passage_letter(of: PassageId, direction: str, number: int) -> str:
    """Return the path to PUT a letter of a passage to; `direction` is `onward` or `back`."""
    return f"{PASSAGES}/{of}/letters/{direction}/{number}"


def artifact(repository: Repository, tag: Tag) -> str:
    """Return the path of an artifact."""
    return f"{ARTIFACTS}/{repository}:{tag}"


def segment(segment_id: SegmentId) -> str:
    """Return the path to GET a segment from."""
    return f"{SEGMENTS}/{segment_id}"


def far_log_file(site: SiteName, name: str) -> str:
    """Return the path of a file of the log of another site, at a relay."""
    return f"{SITES}/{site}{LOG}/{name}"


def log_file(name: str) -> str:
    """Return the path of a file of the log: `checkpoint` or `tile/...`."""
    return f"{LOG}/{name}"
