"""What the comparison asks of a tool, ours or a rival: start a fresh server, push to it, pull from it."""

import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from benchmarks.measuring import Command, Sample, execute
from benchmarks.network import Network
from benchmarks.pki import Pki
from benchmarks.processes import Failed, Server


@dataclass(frozen=True)
class Place:
    """Where one run happens: an empty directory of its own, the wire, certificates, and what is made once for all runs."""

    scratch: Path
    shared: Path
    network: Network
    pki: Pki

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file into the scratch directory and return its path."""
        path = self.scratch / name
        path.write_text(text, encoding="ascii")
        path.chmod(mode)
        return path


class Tool(ABC):
    """One tool in one place, with an empty store; `start` comes first and `stop` last."""

    name: ClassVar[str]
    programs: ClassVar[dict[str, str]]
    """Each program it needs, and the Debian package that has it."""
    version_of: ClassVar[tuple[str, ...]]
    """The command that says its version."""

    def __init__(self, place: Place) -> None:
        """Take the place; nothing runs yet."""
        self.place = place
        self.server: Server

    def start(self) -> None:
        """Start the server and do what a user does once."""
        self.server = self.serve()

    def stop(self) -> None:
        """Stop the server, if it was started."""
        if hasattr(self, "server"):
            self.server.stop()

    @abstractmethod
    def serve(self) -> Server:
        """Start a server with an empty store."""

    @abstractmethod
    def push(self, source: Path, version: str) -> Command:
        """Return the command that sends a file, or the image of that tag in an OCI layout."""

    def pull(self, version: str, name: str, target: Path) -> Command:
        """Return the command that fetches what was pushed and makes `target`/`name`, or the image in the layout `target`."""
        raise NotImplementedError(f"{self.name} pulls nothing here: {version}, {name}, {target}")

    def prepare(self, source: Path, version: str) -> None:
        """Push a version that a later, measured, step builds on."""
        execute(self.place.network, self.push(source, version), self.place.scratch / "prepare.log")

    def after_push(self, sample: Sample) -> dict[str, float]:
        """Return what else is measured of a push that has ended; may wait for it."""
        del sample
        return {}


def missing_packages(tool: type[Tool]) -> list[str]:
    """Return the Debian packages whose programs are not here; servers may be in sbin."""
    return sorted({package for program, package in tool.programs.items() if find_program(program) is None})


def find_program(name: str) -> str | None:
    """Return the path of a program, also where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def program(name: str) -> str:
    """Return the path of a program that is there; raise `Failed` if it is not."""
    path = find_program(name)
    if path is None:
        raise Failed(f"{name} is not installed")
    return path


def version(tool: type[Tool]) -> str:
    """Return the first line in which the tool says its version."""
    first, *rest = tool.version_of
    told = subprocess.run([program(first), *rest], check=False, capture_output=True, text=True)
    lines = (told.stdout + told.stderr).strip().splitlines()
    return lines[0][:80] if lines else "unknown"
