"""A site for trying out, as `carnet-gateway dev` makes it: made once, then served as any other, with what settings are wanted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import Failed

BIN = Path(sys.executable).parent


def make_site(directory: Path) -> None:
    """Let `carnet-gateway dev` make a site, and stop it."""
    log = directory.with_suffix(".log")
    with log.open("wb") as err:
        process = subprocess.Popen([BIN / "carnet-gateway", "dev", directory], stdout=subprocess.PIPE, stderr=err)
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise Failed("carnet-gateway dev did not start")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate()


def set_keys(path: Path, **values: str | list[str]) -> None:
    """Set top-level keys of a TOML file."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.partition(" ")[0] not in values]
    head = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path.write_text("\n".join(head + lines) + "\n", encoding="utf-8")
