"""The source tree as the architecture tests see it: files, their syntax, who imports whom."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
PACKAGES = ("carnet", "agent", "gateway")


@dataclass(frozen=True)
class Source:
    """One Python file of the three packages."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """The path from the root of the project, as messages show it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """The dotted name it is imported by."""
        dotted = self.name.removesuffix(".py").replace("/", ".")
        return dotted.removesuffix(".__init__")


@cache
def sources() -> tuple[Source, ...]:
    """Return every Python file of the packages."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    found = []
    for path in paths:
        text = path.read_text("utf-8")
        found.append(Source(path, text, ast.parse(text)))
    return tuple(found)


@cache
def graph() -> grimp.ImportGraph:
    """Return who imports whom, imports inside functions included."""
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the modules that a file imports, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno


@cache
def tracked() -> tuple[Path, ...]:
    """Return the files that are, or are about to be, part of the project; without git, all that no rule ignores."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=30,
        ).stdout.split(b"\0")
        paths = [ROOT / name.decode() for name in listed if name]
    except (OSError, subprocess.CalledProcessError):
        ignored = {".venv", "__pycache__", "build", "dist", "dev"}
        paths = [
            path
            for path in ROOT.rglob("*")
            if not ignored & set(path.parts) and not any(part.startswith(".") for part in path.parts)
        ]
    return tuple(sorted(path for path in paths if path.is_file()))


def report(problems: list[str], advice: str) -> str:
    """Return the message of a failed check: each problem, then what to do."""
    return "\n".join([*problems, f"-> {advice}"])
