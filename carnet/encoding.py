r"""JSON as bytes that two parties hash alike: canonical out, strict and bounded in.

Rules:      1. what we sign is RFC 8785  2. duplicate keys, floats, integers beyond 2^53-1, lone surrogates, NaN and depth over
            the limit are refused  3. size is checked before parsing
Spec:       docs/formats.md section "Common encodings"; RFC 8785; RFC 7493 (I-JSON)
Example:    >>> canonical({"b": 1, "a": "é"})
            b'{"a":"\xc3\xa9","b":1}'
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import rfc8785

from carnet.errors import PeerError
from carnet.limits import JSON_DEPTH_MAX

JsonValue: TypeAlias = bool | int | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
"""What may stand in a document of ours: no floats."""

_PLAIN = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
"""Writes ASCII as RFC 8785 does, many times as fast; beyond ASCII the two sort keys differently."""
INTEGER_MAX = 2**53 - 1
"""Largest integer two JSON parsers agree about (RFC 7493 section 2.2)."""


def canonical(value: JsonValue) -> bytes:
    """Return the RFC 8785 bytes of `value`; raise `PeerError` E-FORMAT if it has none (floats are refused too)."""
    _check(value, 0)
    try:
        text = _PLAIN.encode(value)
        return text.encode("ascii") if text.isascii() else rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError) as error:
        raise PeerError("E-FORMAT", f"no canonical form: {type(error).__name__}") from None


def parse_json(data: bytes, *, bytes_max: int) -> JsonValue:
    """Return the value that `data` encodes, strictly (rule 2); raise `PeerError` E-FORMAT otherwise."""
    if len(data) > bytes_max:
        raise PeerError("E-FORMAT", f"JSON document of {len(data)} bytes, at most {bytes_max} are read")
    try:
        value: JsonValue = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_refuse_duplicates,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
    except (ValueError, RecursionError) as error:
        detail = str(error) if isinstance(error, _Strictness) else type(error).__name__
        raise PeerError("E-FORMAT", f"not acceptable JSON: {detail}") from None
    _check(value, 0)
    return value


def parse_object(data: bytes, *, bytes_max: int) -> dict[str, JsonValue]:
    """Return the JSON object in `data`; raise `PeerError` E-FORMAT if it is anything else."""
    value = parse_json(data, bytes_max=bytes_max)
    if not isinstance(value, dict):
        raise PeerError("E-FORMAT", "a JSON object was expected")
    return value


def encode_base64(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard base64; raise `PeerError` E-FORMAT for anything that does not encode back alike."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise PeerError("E-FORMAT", "not standard base64") from None
    if encode_base64(data) != text:
        raise PeerError("E-FORMAT", "base64 with stray bits")
    return data


class _Strictness(ValueError):
    """A rule of ours, as against the parser's own complaint."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Strictness("duplicate key")
    return found


def _refuse_number(text: str) -> Any:
    raise _Strictness(f"number {text[:20]} is not an integer")


def _check(value: JsonValue, depth: int) -> None:
    """Refuse depth, range and text that two parsers may read differently."""
    if depth > JSON_DEPTH_MAX:
        raise PeerError("E-FORMAT", f"JSON nested deeper than {JSON_DEPTH_MAX}")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):
                raise PeerError("E-FORMAT", "JSON keys are strings")
            _check_text(key)
            _check(member, depth + 1)
    elif isinstance(value, list | tuple):
        for member in value:
            _check(member, depth + 1)
    elif not isinstance(value, int | None):
        raise PeerError("E-FORMAT", f"no JSON form for {type(value).__name__}")
    elif value is not None and abs(value) > INTEGER_MAX:
        raise PeerError("E-FORMAT", "JSON integer beyond 2^53-1")


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise PeerError("E-FORMAT", "lone surrogate in JSON text") from None
