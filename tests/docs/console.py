"""Runs the `console` blocks of a document in one bash session and compares what they print.

A line that begins with `$ ` is a command, and `> ` continues it; the lines below are its output. `...` stands for anything inside
a line, and for any number of lines where it stands alone. A command must succeed, unless its output ends with `[exit N]`.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_MARK = "\x1e"
_EXIT = re.compile(r"\[exit \d+\]")
_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Step:
    """One command with what the document says it prints."""

    command: str
    expected: tuple[str, ...]

    @property
    def status(self) -> str:
        """The exit status that the document shows, or that of success."""
        return self.expected[-1] if self.expected and _EXIT.fullmatch(self.expected[-1]) else "[exit 0]"

    @property
    def output(self) -> tuple[str, ...]:
        """The lines that the command prints."""
        return tuple(line for line in self.expected if not _EXIT.fullmatch(line))


def steps(document: str) -> list[Step]:
    """Return the commands of all console blocks, in order."""
    found: list[Step] = []
    for block in _BLOCK.findall(document):
        command: list[str] = []
        expected: list[str] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                if command:
                    found.append(Step("\n".join(command), tuple(expected)))
                command, expected = [line[2:]], []
            elif line.startswith("> ") and command and not expected:
                command.append(line[2:])
            else:
                expected.append(line)
        if command:
            found.append(Step("\n".join(command), tuple(expected)))
    return found


def run(commands: list[Step], directory: Path, *, timeout_s: float) -> list[str]:
    """Run the steps in one bash session, which nothing it starts outlives; return a problem for each that did otherwise."""
    script = ["exec 2>&1"]
    for number, step in enumerate(commands):
        script += [f"printf '{_MARK}%s\\n' {number}", step.command, f"printf '{_MARK}status %s\\n' $?"]
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
    }
    output = directory / ".output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "--norc", "-c", "\n".join(script)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return [f"not done after {timeout_s:.0f} s; printed so far:\n{output.read_text('utf-8', 'replace')[-2_000:]}"]
        finally:
            _end(process.pid)
    return _compare(commands, output.read_text("utf-8", "replace"))


def _end(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return


def _compare(commands: list[Step], printed: str) -> list[str]:
    problems = []
    for number, step in enumerate(commands):
        found = re.search(rf"{_MARK}{number}\n(.*?){_MARK}status (\d+)\n", printed, re.DOTALL)
        if found is None:
            problems.append(f"$ {step.command}\n  never ran to its end")
            continue
        lines = found[1].splitlines()
        status = f"[exit {found[2]}]"
        if status != step.status or not matches(step.output, lines):
            lines = [*lines, status]
            problems.append("\n".join([f"$ {step.command}", "  the document says:", *step.expected, "  it printed:", *lines]))
    return problems


def matches(expected: tuple[str, ...], lines: list[str]) -> bool:
    """Tell whether `lines` are what the document says."""
    pieces = []
    for line in expected:
        if line.strip() == "...":
            pieces.append(r"(?:[^\n]*\n)*?")
        else:
            pieces.append(r"[^\n]*".join(re.escape(piece) for piece in line.rstrip().split("...")) + r"[ ]*\n")
    return re.fullmatch("".join(pieces), "".join(f"{line}\n" for line in lines)) is not None
