"""How many bytes does the next version of a tree send, when three of a hundred files changed?"""

import tempfile
from pathlib import Path
from typing import Any

from data import change_files, tree
from dev_site import DevSite


def measure(data: Path, size: int) -> dict[str, Any]:
    """Push a directory, change 3 % of its files, push it again; return the bytes of both pushes and their ratio."""
    original = tree(data / f"tree-{size >> 20}", size)
    with tempfile.TemporaryDirectory(dir=data) as scratch, DevSite(Path(scratch) / "site") as site:
        copy = Path(scratch) / "tree"
        # Hard links would change the original with the copy.
        import shutil

        shutil.copytree(original, copy, symlinks=True)
        first = site.carnet("push", f"dir:{copy}", "bench/tree:v1", "--wait", "delivered")
        files, changed = change_files(copy, 0.03)
        second = site.carnet("push", f"dir:{copy}", "bench/tree:v2", "--wait", "delivered")
    sent = [run.answer["bytes_sent"] for run in (first, second)]
    return {
        "tree_bytes": first.answer["bytes_read"],
        "files_changed": files,
        "bytes_of_changed_files": changed,
        "v1_sent": sent[0],
        "v2_sent": sent[1],
        "ratio": round(sent[1] / sent[0], 4),
        "v1_s": round(first.wall_s, 2),
        "v2_s": round(second.wall_s, 2),
    }
