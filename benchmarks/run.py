"""`make bench`: the figures of docs/performance.md, measured on this machine; `--quick` gives the shape in two minutes.

Each question is a file beside this one. The figures are ours alone and claim nothing about others: a comparison needs the rivals
in the same run, and they are not here yet.
"""

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import next_version
import push_and_pull

from carnet.chunking import kernel_name

GIB = 1 << 30
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Measure, print a table, write results/latest.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data, one run")
    parser.add_argument("--runs", type=int, default=3, help="runs of each timed question")
    arguments = parser.parse_args()
    data = HERE / "data"
    data.mkdir(exist_ok=True)
    sizes = [(GIB // 8, 1)] if arguments.quick else [(GIB, arguments.runs), (8 * GIB, 1)]
    results: dict[str, object] = {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, kernel {kernel_name()}",
    }
    pushes = [push_and_pull.measure(data, size, runs) for size, runs in sizes]
    results["push_and_pull"] = pushes
    results["next_version"] = next_version.measure(data, GIB // 10 if arguments.quick else 1_000_000_000)
    report(results, pushes)
    name = "quick.json" if arguments.quick else "latest.json"
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / name).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


def report(results: dict[str, object], pushes: list[dict[str, object]]) -> None:
    """Print one table."""
    print(f"{results['at']}  {results['machine']}")
    heads = ("file", "push s", "MB/s", "CPU s client", "gateway", "wire MB", "pull s", "RSS MB client", "gateway")
    print("  ".join(heads))
    for one in pushes:
        median = one["median"]
        assert isinstance(median, dict)
        columns = ("push_s", "push_mb_per_s", "push_client_cpu_s", "push_server_cpu_s", "wire_mb", "pull_s", "client_rss_mb")
        cells = [f"{one['size'] / GIB:.3g} GiB", *(f"{median[name]:.2f}" for name in columns), f"{median['server_rss_mb']:.0f}"]  # type: ignore[operator]
        print("  ".join(cell.rjust(len(head)) for cell, head in zip(cells, heads, strict=True)))
    tree = results["next_version"]
    assert isinstance(tree, dict)
    print(f"tree of {tree['tree_bytes'] / 1e6:.0f} MB, {tree['files_changed']} files changed:")
    print(f"  v1 sent {tree['v1_sent'] / 1e6:.1f} MB, v2 {tree['v2_sent'] / 1e6:.1f} MB ({100 * tree['ratio']:.1f} %)")


if __name__ == "__main__":
    sys.exit(main())
