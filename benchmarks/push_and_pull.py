"""How fast is one file pushed to `received`, delivered, and pulled, and how much memory do both ends take, whatever its size?

The clock of a push stops when every segment is durable at the gateway and its id was checked. Both ends share the machine.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from data import mixed_file
from dev_site import DevSite

MIB = 1 << 20


def measure(data: Path, size: int, runs: int) -> dict[str, Any]:
    """Push and pull a file of mixed content `runs` times, each at a fresh site; return medians and raw values."""
    source = mixed_file(data / f"mixed-{size // MIB}.bin", size)
    raw: dict[str, list[float]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=data) as scratch, DevSite(Path(scratch) / "site") as site:
            push = site.carnet("push", f"file:{source}", "bench/file:v1", "--wait", "received")
            site.wait(push.answer["transfer"]["transfer"])
            pull = site.carnet("pull", "bench/file:v1", f"file:{scratch}/out")
            values = {
                "push_s": push.wall_s,
                "push_mb_per_s": size / push.wall_s / 1e6,
                "push_client_cpu_s": push.client_cpu_s,
                "push_server_cpu_s": push.server_cpu_s,
                "wire_mb": push.answer["bytes_sent"] / 1e6,
                "pull_s": pull.wall_s,
                "pull_mb_per_s": size / pull.wall_s / 1e6,
                "client_rss_mb": max(push.client_rss_bytes, pull.client_rss_bytes) / 1e6,
                "server_rss_mb": pull.server_rss_bytes / 1e6,
            }
            for name, value in values.items():
                raw.setdefault(name, []).append(round(value, 3))
    return {"size": size, "runs": runs, "median": {name: statistics.median(values) for name, values in raw.items()}, "raw": raw}
