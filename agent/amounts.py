"""Amounts as people write them: rates such as `50M`, times such as `30m`; flags, environment and settings alike."""

from typing import Final

from carnet.errors import CallerError

_SUFFIXES: Final = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_TIME_SUFFIXES: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DIGITS_MAX: Final = 12


def parse_rate(text: str) -> int:
    """Return bytes a second of `50M`, `800k`, `1Gi`; raise `CallerError` E-USAGE otherwise."""
    number = text.rstrip("kKmMgGiI")
    suffix = text[len(number) :].lower()
    if not _is_number(number) or suffix not in _SUFFIXES or int(number) == 0:
        raise CallerError("E-USAGE", f"not a rate: {ascii(text)[:40]}", remedy="write bytes a second, as in 50M or 800k")
    return int(number) * _SUFFIXES[suffix]


def parse_duration(text: str) -> float:
    """Return seconds of `90`, `90s`, `30m`, `2h`; raise `CallerError` E-USAGE otherwise."""
    number = text.rstrip("smhd")
    suffix = text[len(number) :]
    if not _is_number(number) or suffix not in _TIME_SUFFIXES:
        raise CallerError("E-USAGE", f"not a time: {ascii(text)[:40]}", remedy="write it as in 90s, 30m or 2h")
    return float(int(number) * _TIME_SUFFIXES[suffix])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
