"""A second reader of docs/formats.md, written from that document alone: it imports nothing of Carnet.

It opens segments and an index of suite 1 and rebuilds every part. A mistake in the document shows here.
"""

import hashlib
import hmac
import json
import struct
from collections.abc import Callable

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ROLES = {1: "artifact", 2: "manifest", 3: "referrer", 4: "config", 5: "layer", 6: "blob"}


class RefusedError(Exception):
    """What docs/formats.md refuses; the text is the code it names."""


def need(condition: bool, code: str) -> None:
    if not condition:
        raise RefusedError(code)


def derive_key(secret: bytes, label: bytes, context: bytes) -> bytes:
    return hmac.digest(secret, b"carnet/v1\0" + label + b"\0\x01" + context + b"\x01", "sha256")


def segment_id(container: bytes) -> bytes:
    return b"\x01" + blake3.blake3(container).digest()


def padme(n: int) -> int:
    if n < 2:
        return n
    e = n.bit_length() - 1
    mask = (1 << (e - e.bit_length())) - 1
    return (n + mask) & ~mask


def solo(n: int) -> int:
    return min((step for step in (65536, 262144, 1048576) if step >= n), default=padme(n))


def open_container(container: bytes, key: bytes, magic: bytes = b"CSEG", context: bytes = b"", raw_max: int = 2228224) -> bytes:
    need(44 <= len(container) <= 2359296 and container[:6] == magic + b"\x01\x01", "E-SEGMENT-CORRUPT")
    header = container[:18]
    try:
        payload = AESGCM(key).decrypt(header[6:], container[18:], header + context)
    except InvalidTag:
        raise RefusedError("E-SEGMENT-CORRUPT") from None
    codec, raw_length, body_length = struct.unpack_from(">BII", payload)
    end = 9 + body_length
    need(1 <= raw_length <= raw_max, "E-FORMAT")
    need(len(payload) in (padme(end), solo(end)) and not any(payload[end:]), "E-FORMAT")
    body = payload[9:end]
    if codec == 0:
        need(body_length == raw_length, "E-FORMAT")
        return body
    need(codec == 1 and body_length < raw_length and body[:4] == b"\x28\xb5\x2f\xfd", "E-FORMAT")
    return inflate(body, raw_length)


def inflate(body: bytes, raw_length: int) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(body)
        need(frame.content_size == raw_length and not frame.dict_id and not frame.has_checksum, "E-FORMAT")
        need(frame.window_size <= 8 << 20, "E-FORMAT")
        decoder = zstandard.ZstdDecompressor().decompressobj()
        raw = decoder.decompress(body)
    except zstandard.ZstdError:
        raise RefusedError("E-FORMAT") from None
    need(len(raw) == raw_length and decoder.eof and not decoder.unused_data, "E-FORMAT")
    return raw


def open_pages(containers: list[bytes], artifact_key: bytes, transfer: bytes, closure: bytes) -> bytes:
    records = b""
    for number, container in enumerate(containers):
        place = transfer + struct.pack(">I", number)
        last = number == len(containers) - 1
        context = transfer + closure + struct.pack(">IB", number, last)
        page = open_container(container, derive_key(artifact_key, b"index-page", place), b"CIDX", context, 1048576)
        need(last or len(page) == 1048576, "E-INDEX")
        records += page
    return records


class Records:
    """Takes structures from the front of a run of bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple:
        need(self.at + struct.calcsize(layout) <= len(self.data), "E-INDEX")
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values


def read_index(data: bytes) -> tuple[list[dict], list[dict]]:
    """Return parts (with their extents) and segments (with chunk offsets), or refuse."""
    r = Records(data)
    version, suite, average, _lineage_key, closure, base_count = r.take(">BBI32s32sB")
    need((version, suite) == (1, 1) and average in (16384, 32768) and base_count <= 8, "E-INDEX")
    need(len({r.take(">32s") for _ in range(base_count)}) == base_count, "E-INDEX")
    part_count, segment_count, chunk_count, extent_count = r.take(">IIII")
    need(1 <= part_count <= 20000 and segment_count <= 1200000 and max(chunk_count, extent_count) <= 1 << 26, "E-INDEX")
    parts = []
    for _ in range(part_count):
        (media_type,) = r.take(f">{r.take('>B')[0]}s")
        digest, size, role, encoding, extents = r.take(">32sQBBI")
        need(media_type != b"" and all(0x21 <= c <= 0x7E for c in media_type), "E-INDEX")
        need(role in ROLES and encoding == 0 and size <= 1 << 40, "E-INDEX")
        parts.append({"row": [media_type.decode(), "sha256:" + digest.hex(), size, ROLES[role]], "count": extents})
    segments = [read_segment(r, average, base_count) for _ in range(segment_count)]
    order = [(s["base"], s["id"] if s["base"] else b"") for s in segments]
    need(order == sorted(order) and len({s["id"] for s in segments}) == segment_count, "E-INDEX")
    need(sum(len(s["lengths"]) for s in segments) == chunk_count and sum(p["count"] for p in parts) == extent_count, "E-INDEX")
    for part in parts:
        read_extents(r, part, segments)
    need(r.at == len(data) and len({p["row"][1] for p in parts}) == part_count, "E-INDEX")
    need(all(len(s["used"]) == len(s["lengths"]) or (s["base"] and s["used"]) for s in segments), "E-INDEX")
    table = json.dumps(sorted(p["row"] for p in parts), separators=(",", ":"))
    need(hashlib.sha256(table.encode()).digest() == closure, "E-INDEX")
    return parts, segments


def read_segment(r: Records, average: int, base_count: int) -> dict:
    identifier, key, raw_length, base, count = r.take(">33s32sIBH")
    need(identifier[0] == 1 and base <= base_count and 1 <= count <= (128 if base else (2 << 20) // average), "E-INDEX")
    r.take(f">{16 * count}s")
    lengths = [(high << 16) + low for high, low in (r.take(">BH") for _ in range(count))]
    need(min(lengths) >= 1 and max(lengths) <= (131072 if base else 4 * average), "E-INDEX")
    need(sum(lengths) == raw_length <= 2228224, "E-INDEX")
    return {"id": identifier, "key": key, "raw": raw_length, "base": base, "lengths": lengths, "used": set()}


def read_extents(r: Records, part: dict, segments: list[dict]) -> None:
    part["runs"], before = [], None
    for _ in range(part["count"]):
        number, first, count = r.take(">IHH")
        need(count >= 1 and number < len(segments) and first + count <= len(segments[number]["lengths"]), "E-INDEX")
        need((number, first) != before, "E-INDEX")
        before = (number, first + count)
        segments[number]["used"].update(range(first, first + count))
        lengths = segments[number]["lengths"]
        part["runs"].append((number, sum(lengths[:first]), sum(lengths[: first + count])))
    need(sum(end - start for _, start, end in part["runs"]) == part["row"][2], "E-INDEX")


def rebuild(parts: list[dict], segments: list[dict], fetch: Callable[[bytes], bytes]) -> dict[str, bytes]:
    """Return every part's bytes by digest; `fetch` gives the container of a binary segment id."""
    plain = []
    for segment in segments:
        container = fetch(segment["id"])
        need(segment_id(container) == segment["id"], "E-SEGMENT-CORRUPT")
        plain.append(open_container(container, segment["key"]))
        need(len(plain[-1]) == segment["raw"], "E-FORMAT")
    contents = {}
    for part in parts:
        content = b"".join(plain[number][start:end] for number, start, end in part["runs"])
        need("sha256:" + hashlib.sha256(content).hexdigest() == part["row"][1], "E-DIGEST")
        contents[part["row"][1]] = content
    return contents
