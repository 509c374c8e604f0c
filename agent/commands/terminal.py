"""What the commands of `carnet` share beside the frame of both programs: the settings file that stands before the command."""

from pathlib import Path

PROGRAM = "carnet"
ENVIRONMENT_PREFIX = "CARNET"

_config: list[Path] = []


def set_config(path: Path | None) -> None:
    """Remember what `--config` named for the command that follows it."""
    _config[:] = [] if path is None else [path]


def get_config() -> Path | None:
    """Return what `--config` named, or None."""
    return _config[0] if _config else None
