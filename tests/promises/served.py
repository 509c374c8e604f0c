"""A site as a process of its own that can be told to die: `python -m tests.promises.served DIR [KIND STEP NUMBER]`.

It is `carnet-gateway serve`, whole; the store, the catalog or the log is given a step hook that sends this process SIGKILL at the
NUMBER-th time it comes to STEP. Steps count from the moment that DIR/armed exists, so that starting is not in the way.
`store no-sync 0` is a broken build: its store syncs nothing.
"""

import functools
import os
import signal
import sys
from pathlib import Path

_CLASSES = {"store": "LocalBlobStore", "catalog": "SqliteCatalog", "log": "TransparencyLog"}


class KillAt:
    """Ends the process, as a power switch does, at the `number`-th armed visit of the step."""

    def __init__(self, armed: Path, step: str, number: int) -> None:
        self._armed = armed
        self._step = step
        self._left = number

    def __call__(self, name: str) -> None:
        if name != self._step or not self._armed.exists():
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Serve the directory, with the failpoint if there is one."""
    from carnet.flow.starting import quick_imports
    from gateway.cli import main as run

    with quick_imports():
        from gateway import assembly

    directory, *failpoint = sys.argv[1:]
    if failpoint[1:2] == ["no-sync"]:
        from gateway.storage import local

        local.sync_file = local.sync_directory = lambda *_what: None  # type: ignore[assignment]
    elif failpoint:
        kind, step, number = failpoint
        name = _CLASSES[kind]
        hook = KillAt(Path(directory) / "armed", step, int(number))
        setattr(assembly, name, functools.partial(getattr(assembly, name), step=hook))
    run(["serve", directory])


if __name__ == "__main__":
    main()
