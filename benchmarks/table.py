"""The table that `make bench` prints: medians, ranges, ratios, bytes on the wire, processor time, memory."""

from collections.abc import Sequence

from benchmarks.results_file import OURS, Row, ratio

HEADS = ("operation", "tool", "wall s", "range", "x ours", "wire MB", "x ours", "CPU s", "peak MB", "delivered s")
NOTES = (
    "wall s: ours until `received` (durable, every id checked), the rivals' until they exit; pulls: until verified and written.",
    "delivered s: ours until opened at the destination, all digests recomputed and the stored bytes read back.",
    "x ours: the rival's median by ours, above 1 ours is less. CPU s: both ends. peak MB: largest process of the larger end.",
)


def table(titles: dict[str, str], groups: Sequence[Sequence[Row]]) -> str:
    """Return the table; each group is the rows of one operation, `titles` what the operations are."""
    lines = [list(HEADS)]
    for rows in groups:
        for number, row in enumerate(rows):
            lines.append([row.operation if number == 0 else "", *cells(row, list(rows))])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    out = []
    for line in lines:
        if line[0] and out:
            out += ["", f"-- {line[0]}: {titles.get(line[0], '')}"]
        left = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        out.append("  ".join([*left, *(cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True))]).rstrip())
    return "\n".join([*out, "", *NOTES])


def cells(row: Row, rows: list[Row]) -> list[str]:
    """Return the cells of one row but for its operation."""
    low, high = row.spread("wall_s")
    ratios = [ratio(row, rows, name) for name in ("wall_s", "wire_bytes")]
    times, wires = ("" if value is None or row.tool == OURS else f"{value:.2f}" for value in ratios)
    return [
        row.tool,
        f"{row.median('wall_s'):.2f}",
        f"{low:.2f}-{high:.2f}",
        times,
        f"{row.median('wire_bytes') / 1e6:.1f}",
        wires,
        f"{row.median('cpu_s'):.2f}",
        f"{row.median('rss_bytes') / 1e6:.0f}",
        f"{row.median('delivered_s'):.2f}" if "delivered_s" in row.values else "",
    ]
