"""Every bound on what a peer may send, in one place, named as errors name it.

Rules:      1. a reader of outside bytes checks its bound here before it allocates  2. units are the last word of a name
Spec:       docs/formats.md section "Limits"
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * 1024

JSON_DEPTH_MAX: Final = 32
"""Nesting of any JSON document we read (SECURITY T18 allows 64; nothing of ours needs more than 12)."""
REQUEST_JSON_BYTES_MAX: Final = 1 * MIB
"""Body of any request but commit."""
ENROLL_BYTES_MAX: Final = 64 * KIB
"""Body of an enrolment: an invite, a certificate request, two public keys; nobody has to be known to send one."""
COMMIT_BYTES_MAX: Final = 64 * MIB
"""Body of a commit or a site's declare: holds the segment list, 37 bytes a segment in base64: about 2.4 TiB of content."""
STATEMENT_BYTES_MAX: Final = 1 * MIB
"""One DSSE envelope with its payload."""
TRUST_BUNDLE_BYTES_MAX: Final = 4 * MIB
"""A trust bundle's envelope."""

SEGMENT_RAW_BYTES_TARGET: Final = 2 * MIB
"""New plaintext after which a segment closes."""
SEGMENT_RAW_BYTES_MAX: Final = SEGMENT_RAW_BYTES_TARGET + 128 * KIB
"""Most plaintext in a segment: the target, passed by at most one chunk of the largest size."""
SEGMENT_BYTES_MAX: Final = SEGMENT_RAW_BYTES_MAX + 128 * KIB
"""Most sealed bytes of a segment: incompressible plaintext, payload header, Padme (at most 3.2 %), header, tag."""

INDEX_PAGE_RAW_BYTES_MAX: Final = 1 * MIB
"""Raw bytes of one index page."""
INDEX_PAGES_MAX: Final = 65_535
"""Pages of one index."""
INDEX_CHUNKS_MAX: Final = 1 << 26
"""Chunks, and extents, of one index, bases' included: 1 TiB at 16 KiB; a reader may set a lower bound for its memory."""
PARTS_MAX: Final = 20_000
"""Parts (manifests, configs, layers, referrers) of one closure."""
PART_BYTES_MAX: Final = 1 << 40
"""Size of one part: 1 TiB."""
SEGMENTS_MAX: Final = 1_200_000
"""Segments of one artifact, bases' included; bound by COMMIT_BYTES_MAX."""
MISSING_MAX: Final = 100_000
"""Segments that one answer calls missing; the sender asks again when it has sent them."""
BASES_MAX: Final = 8
"""Bases that one packing list may name."""

MANIFEST_BYTES_MAX: Final = 4 * MIB
"""An OCI manifest or image index (distribution-spec)."""
CONFIG_BYTES_MAX: Final = 8 * MIB
"""An OCI image config."""
INDEX_DEPTH_MAX: Final = 3
"""Image indexes nested in image indexes."""
MANIFESTS_MAX: Final = 2_000
"""Manifests reached from one artifact."""

SLIP_SEGMENTS_MAX: Final = 8_192
"""Segments of one routing slip: about 16 GiB; a passage has as many slips as it needs."""
LETTER_BYTES_MAX: Final = 62 * MIB
"""A letter's envelope with its length field: padded and sealed it is still below COMMIT_BYTES_MAX."""

DESTINATIONS_MAX: Final = 16
"""Destinations of one waybill."""
LOG_ENTRY_BYTES_MAX: Final = 4 * KIB
"""One log entry (DESIGN section 9; tlog-tiles itself allows 65 535)."""
TEXT_CHARS_MAX: Final = 1_000
"""Any free text in a statement: a reason, a purpose, a title."""
ROW_HEADER_CHARS_MAX: Final = 8_000
"""The sealed row in its HTTP header, base64."""
SIGNATURES_MAX: Final = 32
"""Signatures in one envelope or one signed note (signed-note asks for at least 16)."""
TRUST_ENTRIES_MAX: Final = 1_000
"""Sites, lanes or people that one trust bundle names."""
REVOCATIONS_MAX: Final = 1_000
"""Identities, or keys, that one revocation set takes back."""
NOTE_BYTES_MAX: Final = 64 * KIB
"""A signed note with its signatures."""
REASONS_MAX: Final = 64
"""Reasons or obligations in one decision."""

CLOSURE_MANIFEST_BYTES_MAX: Final = 64 * MIB
"""All manifests and image indexes of one closure together; they are held in memory while a closure is walked."""
CLOSURE_REFERENCES_MAX: Final = 200_000
"""Descriptors in all manifests of one closure together; most name the same blobs again."""
LAYOUT_ENTRIES_MAX: Final = 20_000
"""Manifests that one OCI layout lists; each is read to find what refers to the artifact."""
ARCHIVE_MEMBERS_MAX: Final = 1_000_000
"""Members of one tar, and entries of one directory tree."""
DOCKER_MEMBERS_MAX: Final = 100_000
"""Files and links of one Docker archive; where each lies is held in memory."""
ARCHIVE_PATH_BYTES_MAX: Final = 4 * KIB
"""A path, or the target of a link, in a tar."""
ARCHIVE_DEPTH_MAX: Final = 128
"""Directories inside directories in a canonical tar; the unpacker holds one descriptor for each."""
PAX_BYTES_MAX: Final = 64 * KIB
"""The extended header of one tar member."""

POLICY_BYTES_MAX: Final = 1 * MIB
"""One policy file."""
POLICY_RULES_MAX: Final = 1_000
"""Rules of all policy files of one site together."""
POLICY_FILES_MAX: Final = 64
"""Policy files of one site."""
