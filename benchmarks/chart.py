"""The chart for the README: an SVG written by hand, bars of seconds and of megabytes on the wire for every operation."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.results_file import OURS, Row

_BAR = 13
_STEP = 17
_HEAD = 62
_GROUP_HEAD = 24
_LABEL = 108
_WIDTH = 760
_PANEL = 250
_GAP = 76
_LINE = 16
_WHOLE_FROM = 20_000_000
"""Bytes from which megabytes are shown without a decimal."""
_OURS, _OURS_LIGHT, _THEIRS, _INK, _FAINT = "#0b7285", "#99d3dd", "#adb5bd", "#212529", "#868e96"


@dataclass(frozen=True)
class Panel:
    """One column of bars: where it starts, and how many units its width is."""

    left: int
    most: float

    def length(self, value: float) -> float:
        """Return a bar's length in pixels."""
        return round(value / self.most * _PANEL, 1) if self.most else 0.0


def chart(titles: dict[str, str], groups: Sequence[Sequence[Row]], captions: Sequence[str]) -> str:
    """Return the SVG; `captions` are lines that say the date and the machine."""
    rows = [row for group in groups for row in group]
    seconds = Panel(_LABEL, max((max(row.values.get("delivered_s", [0.0]) + row.values["wall_s"]) for row in rows), default=0.0))
    wire = Panel(_LABEL + _PANEL + _GAP, max((row.median("wire_bytes") for row in rows), default=0.0))
    height = _HEAD + sum(_GROUP_HEAD + _STEP * len(group) for group in groups) + _LINE * (len(captions) + 1) + 12
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 22, "Carnet beside what one would use instead", size=15, weight="bold"),
        _text(seconds.left, 48, "seconds: median, line = range; less is better", colour=_FAINT),
        _text(wire.left, 48, "megabytes on the wire", colour=_FAINT),
    ]
    top = _HEAD
    for group in groups:
        name = group[0].operation
        out.append(_text(12, top + 16, f"{name}: {titles.get(name, '')}", weight="bold"))
        top += _GROUP_HEAD
        for row in group:
            out += _bars(row, top, seconds, wire)
            top += _STEP
    out.append(
        _text(12, top + 18, "pale: until opened at the destination, all digests recomputed, read back", colour=_FAINT, size=11)
    )
    for number, caption in enumerate(captions, 1):
        out.append(_text(12, top + 18 + _LINE * number, caption, colour=_FAINT, size=11))
    return "\n".join([*out, "</svg>"]) + "\n"


def _bars(row: Row, top: int, seconds: Panel, wire: Panel) -> list[str]:
    """Draw one tool's two bars."""
    is_ours = row.tool == OURS
    colour = _OURS if is_ours else _THEIRS
    middle, base = row.median("wall_s"), top + 11
    low, high = (seconds.left + seconds.length(value) for value in row.spread("wall_s"))
    end = high
    out = [_text(seconds.left - 8, base, row.tool, anchor="end", weight="bold" if is_ours else "normal")]
    if "delivered_s" in row.values:
        delivered = seconds.length(row.median("delivered_s"))
        out.append(_rect(seconds.left, top, delivered, _OURS_LIGHT))
        end = max(end, seconds.left + delivered)
    out.append(_rect(seconds.left, top, seconds.length(middle), colour))
    line = top + _BAR / 2
    out.append(f'<line x1="{low:.1f}" y1="{line}" x2="{high:.1f}" y2="{line}" stroke="{_INK}"/>')
    out.append(_text(end + 5, base, f"{middle:.2f} s"))
    sent = row.median("wire_bytes")
    out.append(_rect(wire.left, top, wire.length(sent), colour))
    out.append(_text(wire.left + wire.length(sent) + 5, base, f"{sent / 1e6:.{0 if sent >= _WHOLE_FROM else 1}f} MB"))
    return out


def _rect(left: float, top: float, width: float, colour: str) -> str:
    return f'<rect x="{left}" y="{top}" width="{max(width, 1.0)}" height="{_BAR}" fill="{colour}"/>'


def _text(
    left: float, base: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = _INK, size: int = 12
) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}" fill="{colour}" font-size="{size}"'
    return f'<text x="{left:.1f}" y="{base}" {style}>{escape(text)}</text>'
