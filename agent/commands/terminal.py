"""The flags that all commands of `carnet` share, and how a coroutine is run with Ctrl-C meaning what it should."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from carnet.flow.commandline import Terminal

PROGRAM = "carnet"
Result = TypeVar("Result")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more, on standard error.")]

_CONFIG: dict[str, Path | None] = {"path": None}


def set_config(path: Path | None) -> None:
    """Remember `--config`, which stands before the command."""
    _CONFIG["path"] = path


def get_config() -> Path | None:
    """Return what `--config` named, or None."""
    return _CONFIG["path"]


def wait_for(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; Ctrl-C cancels it, so temporary files go."""
    return asyncio.run(work)


__all__ = ["PROGRAM", "Json", "Quiet", "Terminal", "Verbose", "get_config", "set_config", "wait_for"]
