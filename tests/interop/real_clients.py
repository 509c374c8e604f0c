"""What tests do with skopeo and umoci from Debian: run them, and make a layout as they make it."""

import hashlib
import subprocess
from pathlib import Path

from tests.agent.layouts import blobs_of


def run(*command: str | Path) -> bytes:
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr.decode(errors='replace')}"
    return done.stdout


def skopeo_copy(source: str, target: str, *flags: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "--quiet", *flags, source, target)


def check_blobs(path: Path) -> None:
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs_of(path).items())


def make_umoci_layout(tmp_path: Path) -> Path:
    """A layout that umoci made: an image of two gzip layers, the second with links and odd modes."""
    layout = tmp_path / "umoci"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:v1")
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/program").write_bytes(b"program" * 10_000)
    (tree / "bin/program").chmod(0o4755)
    (tree / "bin/alias").symlink_to("program")
    (tree / "ünïcödé").write_bytes(b"")
    run("umoci", "insert", "--rootless", "--image", f"{layout}:v1", tree / "bin", "/bin")
    run("umoci", "insert", "--rootless", "--image", f"{layout}:v1", tree, "/srv")
    run("umoci", "gc", "--layout", layout)
    return layout
